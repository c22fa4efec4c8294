"""Reads arrays of other libraries without copies."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.checks import shown
from distopt.typing import Array

__all__ = ["detached", "foreign_array", "readable"]


def detached(value: Any) -> Any:
    """Returns ``value``, or a PyTorch tensor as an array in its memory, even if it requires grad."""
    return np.asarray(value.detach()) if hasattr(value, "requires_grad") else value


def readable(value: Any) -> Any:
    """Returns ``value``, unless NumPy would read it wrongly or not at all.

    Raises:
        TypeError: it is a masked array, whose mask would be lost, a sparse SciPy matrix, which NumPy would
            read as a single object, or a bfloat16 array of a library that does not use ml_dtypes.
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
    """Converts ``value`` to an array in native byte order, without a copy if possible.

    Args:
        value: an object with ``__array__`` (PyTorch, JAX), the buffer protocol (``array.array``,
            ``memoryview``) or ``__dlpack__`` (https://dmlc.github.io/dlpack).
        what: its name, for messages.

    Raises:
        TypeError: it cannot be converted, such as a tensor on another device or that requires grad, a dtype
            that NumPy lacks, or a masked array.
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
