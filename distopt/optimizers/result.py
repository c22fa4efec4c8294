"""The result of a step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distopt.core.tensor import TensorLike
from distopt.typing import Array

__all__ = ["StepResult"]


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class StepResult(TensorLike):
    """The step count, an int64 of shape (). ``apply_gradients`` and ``minimize`` return it.

    In TensorFlow graphs the result is an operation that has not run yet. Here the step has been made.
    Programs may still call :meth:`run`.
    """

    _value: int

    def _array(self) -> Array:
        return np.asarray(self._value, np.int64)

    def run(self) -> None:
        """Does nothing: the step has been made."""

    def __repr__(self) -> str:
        return f"<tf.Variable 'UnreadVariable' shape=() dtype=int64, numpy={self._value}>"
