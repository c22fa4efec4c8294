"""Initializer, the base class of initializers, and the initializers without randomness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core.checks import as_config, as_dtype, as_shape
from distopt.core.keywords import KnownArguments
from distopt.core.numbers import as_numbers, as_scalar
from distopt.core.tensor import Tensor, as_array
from distopt.typing import DTypeLike

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Constant", "Identity", "Initializer", "Ones", "Zeros", "dtype_or_default"]


class Initializer(KnownArguments):
    """Base class of initializers: functions from a shape and a dtype to a tensor. Any callable works too.

    Random initializers take ``seed``. With an int, each call returns the same numbers for the same shape.
    With None, the seed is drawn from NumPy's global generator, so ``numpy.random.seed`` makes a program
    reproducible. All replicas get the values of replica 0.
    """

    def __call__(self, shape: Sequence[int], dtype: DTypeLike | None = None, **kwargs: Any) -> Tensor:
        """The values, float32 if no dtype is given."""
        raise NotImplementedError(f"{type(self).__name__} must override __call__")

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns an initializer from a result of :meth:`get_config`. As in Keras, ``dtype`` is ignored."""
        return cls(**{k: v for k, v in as_config(config, cls.__name__).items() if k != "dtype"})


class Zeros(Initializer):
    """Zeros."""

    def __call__(self, shape: Sequence[int], dtype: DTypeLike | None = None, **kwargs: Any) -> Tensor:
        """Zeros of ``shape``, float32 if no dtype is given."""
        return Tensor(np.zeros(as_shape(shape), dtype_or_default(dtype)))


class Ones(Initializer):
    """Ones."""

    def __call__(self, shape: Sequence[int], dtype: DTypeLike | None = None, **kwargs: Any) -> Tensor:
        """Ones of ``shape``, float32 if no dtype is given."""
        return Tensor(np.ones(as_shape(shape), dtype_or_default(dtype)))


class Constant(Initializer):
    """A constant, or the values of an array.

    Args:
        value: a number, or an array that broadcasts to the shape.
    """

    def __init__(self, value: Any = 0) -> None:
        as_numbers(value, "the value of Constant")
        self.value = value

    def __call__(self, shape: Sequence[int], dtype: DTypeLike | None = None, **kwargs: Any) -> Tensor:
        """The value of ``shape``, float32 if no dtype is given.

        Raises:
            ValueError: the value does not broadcast to ``shape``.
        """
        return Tensor(np.broadcast_to(as_array(self.value).astype(dtype_or_default(dtype)), as_shape(shape)))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"value": self.value}


class Identity(Initializer):
    """The identity matrix times ``gain``."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = as_scalar(gain, "gain")

    def __call__(self, shape: Sequence[int], dtype: DTypeLike | None = None, **kwargs: Any) -> Tensor:
        """The matrix, float32 if no dtype is given.

        Raises:
            ValueError: ``shape`` has not two axes.
        """
        shape = as_shape(shape)
        if len(shape) != 2:
            raise ValueError(f"Identity makes matrices; got shape {shape}")
        return Tensor(self.gain * np.eye(shape[0], shape[1]), dtype_or_default(dtype))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"gain": self.gain}


def dtype_or_default(dtype: DTypeLike | None) -> np.dtype[Any]:
    """``dtype``, or float32 for None."""
    return as_dtype(dtype)
