"""Sums along an axis of a matrix as products with ones: a third of the time of NumPy's reduce."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from distopt.autodiff.fused.half import narrow, wide
from distopt.typing import Array

__all__ = ["column_sums", "row_sums"]

#: The types that BLAS multiplies.
_FAST = "fd"


def column_sums(x: Any) -> Any:
    """``[rows, columns]`` -> ``[columns]``; what is traced may come in too."""
    if type(x) is not np.ndarray or x.dtype.char not in _FAST:
        return narrow(np.add.reduce(wide(x), 0), x)
    return _ones(x.shape[0], x.dtype).dot(x)


def row_sums(x: Array) -> Array:
    """``[..., columns]`` -> ``[...]``."""
    if x.dtype.char not in _FAST:
        return np.asarray(narrow(np.add.reduce(wide(x), -1), x))
    return np.asarray(x.dot(_ones(x.shape[-1], x.dtype)))


@lru_cache(maxsize=16)
def _ones(length: int, dtype: np.dtype[Any]) -> Array:
    return np.ones(length, dtype)
