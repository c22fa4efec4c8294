"""Arrays of several dtypes in one message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import numpy as np

from distopt.typing import Array, Shape

__all__ = ["Spec", "packed", "size_of", "unpacked"]

#: Shape and dtype.
Spec = tuple[Shape, "np.dtype[Any]"]


def packed(arrays: Iterable[Array]) -> Array:
    """Their bytes, one after the other: 1-D uint8."""
    parts = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays]
    return np.concatenate([np.empty(0, np.uint8), *parts])


def size_of(specs: Iterable[Spec]) -> int:
    """The bytes of arrays."""
    return sum(prod(shape) * dtype.itemsize for shape, dtype in specs)


def unpacked(data: Array, specs: Sequence[Spec]) -> list[Array]:
    """The arrays that :func:`packed` was given, in the memory of ``data`` where they lie well there."""
    arrays, start = [], 0
    for shape, dtype in specs:
        array = np.frombuffer(data, dtype, prod(shape), start).reshape(shape)
        start += array.nbytes
        arrays.append(array if array.flags.aligned else array.copy())
    return arrays
