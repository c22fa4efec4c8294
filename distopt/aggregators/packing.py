"""Arrays of several dtypes in one message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    return sum(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for shape, dtype in specs)


def unpacked(data: Array, specs: Sequence[Spec]) -> list[Array]:
    """The arrays that :func:`packed` was given; they may be written to."""
    arrays, start = [], 0
    for spec in specs:
        stop = start + size_of([spec])
        arrays.append(np.frombuffer(data[start:stop].tobytes(), spec[1]).reshape(spec[0]).copy())
        start = stop
    return arrays
