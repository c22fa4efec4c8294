"""Constraints, which are applied to variables after each dense update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core.checks import as_config
from distopt.core.keywords import KnownArguments
from distopt.core.registry import Registry, by_name, by_snake_case_name, serialize_object
from distopt.core.tensor import as_array

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "Constraint",
    "MaxNorm",
    "MinMaxNorm",
    "NonNeg",
    "UnitNorm",
    "deserialize",
    "get",
    "max_norm",
    "min_max_norm",
    "non_neg",
    "serialize",
    "unit_norm",
]

_EPSILON = 1e-7


class Constraint(KnownArguments):
    """Base class of constraints: functions from a variable to its new value. Any callable works too."""

    def __call__(self, w: Any) -> Any:
        """The constrained value, of ``w``'s shape and dtype."""
        raise NotImplementedError(f"{type(self).__name__} must override __call__")

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns a constraint from a result of :meth:`get_config`."""
        return cls(**as_config(config, cls.__name__))


class NonNeg(Constraint):
    """Sets negative weights to zero. NaN stays NaN.

    >>> import numpy as np
    >>> (NonNeg()(np.array([-1.0, 2.0])) == [0.0, 2.0]).all()
    np.True_
    """

    def __call__(self, w: Any) -> Any:
        """``w * (w >= 0)``."""
        return w * (w >= 0)


class MaxNorm(Constraint):
    """Limits the norm of weights: ``w * clip(n, 0, max_value) / (1e-7 + n)``.

    Args:
        max_value: the largest norm.
        axis: the axis or axes of the norm. 0 for the incoming weights of a Dense unit.
    """

    def __init__(self, max_value: float = 2, axis: int | tuple[int, ...] = 0) -> None:
        self.max_value = max_value
        self.axis = axis

    def __call__(self, w: Any) -> Any:
        """The scaled weights.

        Raises:
            ValueError: ``w`` is a scalar or lacks the axis.
        """
        norms = _norms(w, self.axis)
        return w * (np.clip(norms, 0, self.max_value) / (_EPSILON + norms))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"max_value": self.max_value, "axis": self.axis}


class UnitNorm(Constraint):
    """Scales weights to norm 1: ``w / (1e-7 + n)``.

    Args:
        axis: the axis or axes of the norm.
    """

    def __init__(self, axis: int | tuple[int, ...] = 0) -> None:
        self.axis = axis

    def __call__(self, w: Any) -> Any:
        """The scaled weights.

        Raises:
            ValueError: ``w`` is a scalar or lacks the axis.
        """
        return w / (_EPSILON + _norms(w, self.axis))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"axis": self.axis}


class MinMaxNorm(Constraint):
    """Moves the norm of weights into an interval.

    ``w * d / (1e-7 + n)`` with ``d = rate * clip(n, min_value, max_value) + (1 - rate) * n``.

    Args:
        min_value: the smallest norm.
        max_value: the largest norm.
        rate: the fraction of the correction to apply each time; 1 for all of it.
        axis: the axis or axes of the norm.
    """

    def __init__(
        self,
        min_value: float = 0.0,
        max_value: float = 1.0,
        rate: float = 1.0,
        axis: int | tuple[int, ...] = 0,
    ) -> None:
        self.min_value = min_value
        self.max_value = max_value
        self.rate = rate
        self.axis = axis

    def __call__(self, w: Any) -> Any:
        """The scaled weights.

        Raises:
            ValueError: ``w`` is a scalar or lacks the axis.
        """
        norms = _norms(w, self.axis)
        desired = self.rate * np.clip(norms, self.min_value, self.max_value) + (1 - self.rate) * norms
        return w * (desired / (_EPSILON + norms))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "min_value": self.min_value,
            "max_value": self.max_value,
            "rate": self.rate,
            "axis": self.axis,
        }


def _norms(w: Any, axis: int | tuple[int, ...]) -> Any:
    axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    shape = as_array(w).shape
    if any(not -len(shape) <= a < len(shape) for a in axes):
        raise ValueError(
            f"a norm constraint over axis={axis} needs a variable with that axis; got shape {shape}. "
            "Choose another axis, or NonNeg for a scalar."
        )
    return np.sqrt(np.sum(np.square(w), axis=axes, keepdims=True))


max_norm = MaxNorm
min_max_norm = MinMaxNorm
non_neg = NonNeg
unit_norm = UnitNorm

_classes = by_name(MaxNorm, MinMaxNorm, NonNeg, UnitNorm)
registry = Registry("constraint", _classes | by_snake_case_name(_classes))


def serialize(constraint: Any) -> Any:
    """Returns the config of a constraint, the name of a function, or None for None."""
    return serialize_object(constraint)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Returns the constraint of a config that :func:`serialize` returned.

    Raises:
        ValueError: the config is malformed, or its class is unknown.
    """
    return registry.deserialize(config, custom_objects)


def get(identifier: Any) -> Any:
    """Returns a constraint from a name, a config, a callable, or None.

    Raises:
        ValueError: ``identifier`` is none of these, or unknown.
    """
    return registry.get(identifier)
