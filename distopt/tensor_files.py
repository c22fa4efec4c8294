"""Files of the package safetensors, which is imported only where it is needed."""

from __future__ import annotations

import os
from typing import Any, BinaryIO

from distopt.errors import MissingExtra
from distopt.typing import Array

__all__ = ["is_storable", "load_errors", "open_tensors", "safetensors"]

#: The dtypes that every version of the package knows, bfloat16 aside.
_STORABLE = frozenset(["b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"])


def safetensors(feature: str) -> Any:
    """The package.

    Args:
        feature: what needs it.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import safetensors
        import safetensors.numpy
    except ModuleNotFoundError:
        raise MissingExtra.of(feature, "safetensors") from None
    return safetensors


def is_storable(array: Array) -> bool:
    """Whether the format has the array's dtype."""
    dtype = array.dtype
    return dtype.isnative and (dtype.str[1:] in _STORABLE or dtype.name == "bfloat16")


def open_tensors(file: BinaryIO, path: str) -> Any:
    """The tensors of an open file, of which only the header is read until they are asked for.

    Args:
        file: as :func:`distopt.file_access.open_to_read` gives it; may be closed afterwards.
        path: where it is.
    """
    # By the descriptor where possible: the path may come to mean another file.
    same = f"/proc/self/fd/{file.fileno()}"
    return safetensors("reading tensors").safe_open(same if os.path.exists(same) else path, framework="numpy")


def load_errors() -> tuple[type[Exception], ...]:
    """What opening a broken file, or reading a tensor of it, raises."""
    # The last ones: a dtype that NumPy does not have, or one that does not fit the shape.
    return (safetensors("reading tensors").SafetensorError, AttributeError, TypeError, ValueError)
