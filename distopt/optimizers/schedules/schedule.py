"""LearningRateSchedule: a learning rate that depends on the step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core.checks import as_config
from distopt.core.keywords import KnownArguments
from distopt.core.numbers import as_numbers
from distopt.core.tensor import Tensor, constant
from distopt.typing import Array

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LearningRateSchedule", "rate_array", "step_array", "tensor_of"]


class LearningRateSchedule(KnownArguments):
    """A function of the step that an optimizer takes as its learning rate.

    Subclasses override ``__call__`` and :meth:`get_config`; what ``get_config`` returns must be the
    keyword arguments of the constructor. Calling a schedule must have no side effect and give the same
    value on every replica.
    """

    def __call__(self, step: Any) -> Any:
        """The learning rate at ``step``.

        Args:
            step: a number, an array or a variable of any shape.

        Returns:
            A tensor of the step's shape and the initial rate's dtype (float32 for Python numbers).

        Raises:
            NotImplementedError: the subclass does not override it.
        """
        raise NotImplementedError("Learning rate schedule must override __call__")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments.

        Raises:
            NotImplementedError: the subclass does not override it.
        """
        raise NotImplementedError("Learning rate schedule must override get_config")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """A schedule from what :meth:`get_config` returned."""
        return cls(**as_config(config, cls.__name__))


def rate_array(rate: Any) -> Array:
    """``rate`` as an array, float32 unless it already is of another floating dtype."""
    value = as_numbers(constant(rate), "a learning rate")
    return value if value.dtype.kind == "f" else value.astype(np.float32)


def step_array(step: Any, dtype: np.dtype[Any]) -> Array:
    """``step`` in the dtype that the schedule computes in."""
    return as_numbers(step, "the step, and each number of a schedule,").astype(dtype)


def tensor_of(value: Any, dtype: np.dtype[Any]) -> Tensor:
    """A schedule's result."""
    return Tensor(np.asarray(value), dtype)
