"""Dtypes of numbers: those of NumPy, and bfloat16, which the package ml_dtypes adds.

bfloat16 has float32's range in half of its bytes, and 8 bits of precision. To NumPy it is of the kind "V", as
raw bytes are, so kinds are asked for by :func:`kind_of`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.errors import MissingExtra

__all__ = ["arithmetic_dtype", "bfloat16", "is_bfloat16", "is_narrow", "kind_of"]

_FLOAT32 = np.dtype(np.float32)


def bfloat16() -> np.dtype[Any]:
    """The dtype, of a package that is imported here first.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import ml_dtypes
    except ModuleNotFoundError:
        raise MissingExtra.of("dtype='bfloat16'", "ml_dtypes") from None
    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return found


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether it is bfloat16; imports nothing."""
    return dtype.kind == "V" and dtype.name == "bfloat16"


def kind_of(dtype: np.dtype[Any]) -> str:
    """``dtype.kind``, and "f" for bfloat16."""
    return "f" if is_bfloat16(dtype) else dtype.kind


def is_narrow(dtype: np.dtype[Any]) -> bool:
    """Whether it is float16 or bfloat16: made to be stored, too short to add up many numbers."""
    return dtype.itemsize == 2 and kind_of(dtype) == "f"


def arithmetic_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What numbers of ``dtype`` are computed in: float32 for bfloat16, itself for others.

    So results are rounded once: after each operation, 8 bits would be too few.
    """
    return _FLOAT32 if is_bfloat16(dtype) else dtype
