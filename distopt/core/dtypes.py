"""Numeric dtypes: those of NumPy, and bfloat16 from the package ml_dtypes.

bfloat16 has the range of float32 and 8 bits of precision. Its ``dtype.kind`` is "V", like that of raw bytes,
so use :func:`kind_of` instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.errors import MissingExtra

__all__ = ["arithmetic_dtype", "bfloat16", "is_bfloat16", "is_narrow", "kind_of"]

_FLOAT32 = np.dtype(np.float32)


def bfloat16() -> np.dtype[Any]:
    """The dtype bfloat16. Imports ml_dtypes.

    Raises:
        MissingExtra: ml_dtypes is not installed.
    """
    try:
        import ml_dtypes
    except ModuleNotFoundError:
        raise MissingExtra.of("dtype='bfloat16'", "ml_dtypes") from None
    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return found


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether the dtype is bfloat16. Imports nothing."""
    return dtype.kind == "V" and dtype.name == "bfloat16"


def kind_of(dtype: np.dtype[Any]) -> str:
    """``dtype.kind``, and "f" for bfloat16."""
    return "f" if is_bfloat16(dtype) else dtype.kind


def is_narrow(dtype: np.dtype[Any]) -> bool:
    """Whether the dtype is float16 or bfloat16, whose precision is too low for sums of many numbers."""
    return dtype.itemsize == 2 and kind_of(dtype) == "f"


def arithmetic_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which numbers of ``dtype`` are computed: float32 for bfloat16, else ``dtype`` itself.

    So bfloat16 results are rounded once, not after each operation.
    """
    return _FLOAT32 if is_bfloat16(dtype) else dtype
