"""What a step returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distopt.core.tensor import TensorLike
from distopt.typing import Array

__all__ = ["StepResult"]


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class StepResult(TensorLike):
    """The number of steps made, an int64 of shape (): what ``apply_gradients`` and ``minimize`` return.

    In TensorFlow's graphs this is an operation that is still to be run. Here the step has been made;
    programs may call :meth:`run` nevertheless.
    """

    _value: int

    def _array(self) -> Array:
        return np.asarray(self._value, np.int64)

    def run(self) -> None:
        """Does nothing: the step has been made."""

    def __repr__(self) -> str:
        return f"<tf.Variable 'UnreadVariable' shape=() dtype=int64, numpy={self._value}>"
