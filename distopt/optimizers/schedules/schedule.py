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
    """The base class of schedules, functions of the step that optimizers take as their learning rate.

    Subclasses override ``__call__`` and :meth:`get_config`, which must return the keyword arguments of the
    constructor. A call must have no side effects and must return the same value on every replica.
    """

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate at ``step``.

        Args:
            step: a number, an array or a variable of any shape.

        Returns:
            A tensor with the shape of the step and the dtype of the initial rate (Python numbers: float32).

        Raises:
            NotImplementedError: the subclass does not override it.
        """
        raise NotImplementedError("Learning rate schedule must override __call__")

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor.

        Raises:
            NotImplementedError: the subclass does not override it.
        """
        raise NotImplementedError("Learning rate schedule must override get_config")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Creates a schedule from the result of :meth:`get_config`."""
        return cls(**as_config(config, cls.__name__))


def rate_array(rate: Any) -> Array:
    """Returns ``rate`` as an array, in float32 unless it has another floating dtype."""
    value = as_numbers(constant(rate), "a learning rate")
    return value if value.dtype.kind == "f" else value.astype(np.float32)


def step_array(step: Any, dtype: np.dtype[Any]) -> Array:
    """Returns ``step`` in the dtype in which the schedule computes."""
    return as_numbers(step, "the step, and each number of a schedule,").astype(dtype)


def tensor_of(value: Any, dtype: np.dtype[Any]) -> Tensor:
    """Returns the result of a schedule as a tensor."""
    return Tensor(np.asarray(value), dtype)
