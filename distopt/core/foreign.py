"""Arrays of other libraries, seen where they lie: nothing is copied."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.checks import shown
from distopt.typing import Array

__all__ = ["foreign_array"]


def foreign_array(value: Any, what: str) -> Array:
    """An array that shares the memory of ``value``, where the system allows it.

    Args:
        value: what has ``__array__`` (PyTorch, JAX), the buffer protocol (``array.array``,
            ``memoryview``) or ``__dlpack__`` (https://dmlc.github.io/dlpack).
        what: for the error's text.

    Raises:
        TypeError: its owner cannot give it out: it lies on another device, is recorded for derivatives, or
            has a dtype that NumPy lacks.
    """
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except Exception as error:
        raise TypeError(f"{what} cannot be read as an array: {shown(value)}: {error}") from error
