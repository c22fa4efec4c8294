"""Random tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core import Tensor
from distopt.core.checks import as_dtype, as_seed
from distopt.core.random import stream
from distopt.keras.global_state import session
from distopt.keras.per_replica import this_replica
from distopt.typing import DTypeLike

__all__ = ["random_normal", "random_uniform", "reset_calls"]

#: Tells these numbers from others of the same seed.
_PURPOSE = 0x6B62


def random_normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: DTypeLike = None, seed: int | None = None
) -> Tensor:
    """Draws numbers from a normal distribution.

    Args:
        shape: the shape of the tensor, also as a tensor.
        mean: the mean of the distribution.
        stddev: the standard deviation of the distribution.
        dtype: :func:`floatx` by default.
        seed: the seed. Each replica gets its own sequence, and each call other numbers. By default numbers
            come from NumPy's global generator.
    """
    drawn = _generator(seed).normal(mean, stddev, _shape(shape))
    return Tensor(np.asarray(drawn, as_dtype(dtype)))


def random_uniform(
    shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: DTypeLike = None, seed: int | None = None
) -> Tensor:
    """Draws numbers between ``minval`` and ``maxval``. See :func:`random_normal`."""
    drawn = _generator(seed).uniform(minval, maxval, _shape(shape))
    return Tensor(np.asarray(drawn, as_dtype(dtype)))


def reset_calls() -> None:
    """Resets the sequences of all seeds."""
    session.random_calls.clear()


def _generator(seed: int | None) -> Any:
    known = as_seed(seed)
    if known is None:
        return np.random
    replica = this_replica()
    call = session.random_calls[known, replica]
    session.random_calls[known, replica] += 1
    return stream(known, replica=replica, step=call, purpose=_PURPOSE)


def _shape(shape: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in shape)
