"""Arrays of other libraries, seen where they lie: nothing is copied."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.checks import shown
from distopt.typing import Array

__all__ = ["detached", "foreign_array", "readable"]


def detached(value: Any) -> Any:
    """``value``, or the memory of a PyTorch tensor, also of one that requires grad."""
    return np.asarray(value.detach()) if hasattr(value, "requires_grad") else value


def readable(value: Any) -> Any:
    """``value``, if it is not one of those that NumPy would read wrongly or not at all.

    Raises:
        TypeError: a masked array, whose mask would be dropped; bfloat16 of a library that
            does not keep it in NumPy arrays; a sparse matrix
            of SciPy, which NumPy would take for one object.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError("a masked array has elements without a value: fill them, e.g. with .filled(0)")
    own = isinstance(value, (np.ndarray, np.generic))
    if not own and str(getattr(value, "dtype", "")).endswith("bfloat16"):
        raise TypeError("NumPy has no bfloat16: cast it first, e.g. with .float() or .astype('float32')")
    if hasattr(value, "tocsr") and hasattr(value, "toarray"):
        raise TypeError("a sparse matrix is not an array: convert it with .toarray()")
    return value


def foreign_array(value: Any, what: str) -> Array:
    """An array that shares the memory of ``value``, where the system allows it; in this machine's byte order.

    Args:
        value: what has ``__array__`` (PyTorch, JAX), the buffer protocol (``array.array``,
            ``memoryview``) or ``__dlpack__`` (https://dmlc.github.io/dlpack).
        what: for the error's text.

    Raises:
        TypeError: its owner cannot give it out: it lies on another device, is recorded for derivatives, or
            has a dtype that NumPy lacks; a masked array.
    """
    try:
        value = readable(value)
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        array: Array = np.asarray(value)
        if array.dtype == object and array.ndim == 0 and not isinstance(value, np.ndarray):
            raise TypeError(f"NumPy makes no array of numbers of a {type(value).__name__}")
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    except Exception as error:
        raise TypeError(f"{what} cannot be read as an array: {shown(value)}: {error}") from error
