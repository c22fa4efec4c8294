"""Regularizers: penalties on weights, which are added to the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core.checks import as_config, shown
from distopt.core.keywords import KnownArguments
from distopt.core.registry import Registry, by_name, by_snake_case_name, serialize_object

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["L1", "L2", "L1L2", "Regularizer", "deserialize", "get", "l1", "l1_l2", "l2", "serialize"]


class Regularizer(KnownArguments):
    """Base class of regularizers: functions from a weight to a scalar penalty. Any callable works too."""

    def __call__(self, x: Any) -> Any:
        """The penalty, a scalar of ``x``'s dtype."""
        raise NotImplementedError(f"{type(self).__name__} must override __call__")

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        raise NotImplementedError(f"{type(self).__name__} must override get_config to be saved")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns a regularizer from a result of :meth:`get_config`."""
        return cls(**as_config(config, cls.__name__))


class L1(Regularizer):
    """``l1 * sum(|x|)``.

    Args:
        l1: the factor of the penalty, a finite number.

    Raises:
        ValueError: ``l1`` is not a finite number.
    """

    def __init__(self, l1: float = 0.01) -> None:
        self.l1 = _factor("l1", l1)

    def __call__(self, x: Any) -> Any:
        """The penalty, a scalar of ``x``'s dtype."""
        return self.l1 * np.sum(np.abs(x))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"l1": self.l1}


class L2(Regularizer):
    """``l2 * sum(x ** 2)``.

    Args:
        l2: the factor of the penalty, a finite number.

    Raises:
        ValueError: ``l2`` is not a finite number.

    >>> import numpy as np
    >>> float(L2(0.5)(np.array([1.0, 2.0])))
    2.5
    """

    def __init__(self, l2: float = 0.01) -> None:
        self.l2 = _factor("l2", l2)

    def __call__(self, x: Any) -> Any:
        """The penalty, a scalar of ``x``'s dtype."""
        return self.l2 * np.sum(np.square(x))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"l2": self.l2}


class L1L2(Regularizer):
    """``l1 * sum(|x|) + l2 * sum(x ** 2)``.

    Args:
        l1: the factor of the absolute values.
        l2: the factor of the squares.

    Raises:
        ValueError: a factor is not a finite number.
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1 = _factor("l1", l1)
        self.l2 = _factor("l2", l2)

    def __call__(self, x: Any) -> Any:
        """The penalty, a scalar of ``x``'s dtype."""
        return self.l1 * np.sum(np.abs(x)) + self.l2 * np.sum(np.square(x))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"l1": self.l1, "l2": self.l2}


def _factor(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, the factor of a penalty; got {shown(value)}")
    return float(value)


l1 = L1
l2 = L2


def l1_l2(l1: float = 0.01, l2: float = 0.01) -> L1L2:  # the defaults of Keras, other than the class's
    """:class:`L1L2` with both factors 0.01 by default."""
    return L1L2(l1=l1, l2=l2)


registry = Registry("regularizer", by_name(L1, L2, L1L2) | by_snake_case_name(by_name(L1, L2)))


def serialize(regularizer: Any) -> Any:
    """Returns the config of a regularizer, the name of a function, or None for None."""
    return serialize_object(regularizer)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Returns the regularizer of a config that :func:`serialize` returned.

    Raises:
        ValueError: the config is malformed, or its class is unknown.
    """
    if isinstance(config, str) and config == "l1_l2":
        return l1_l2()
    return registry.deserialize(config, custom_objects)


def get(identifier: Any) -> Any:
    """Returns a regularizer from a name, a config, a callable, or None.

    Raises:
        ValueError: ``identifier`` is none of these, or unknown.
    """
    return deserialize(identifier) if isinstance(identifier, str) else registry.get(identifier)
