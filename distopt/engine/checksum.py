"""A fast checksum that detects whether an array has changed."""

from __future__ import annotations

import numpy as np
from numba import types

from distopt.comm.precompile import precompiled
from distopt.typing import Array

__all__ = ["checksum"]

#: 2**32 divided by the golden ratio, rounded to an odd number (Knuth, TAOCP 3, section 6.4).
_FACTOR = 2654435769


def checksum(array: Array) -> int:
    """A 64-bit checksum of a C-contiguous array whose size in bytes is a multiple of 4.

    It is the sum of all 4-byte words, each times a pseudo-random odd number. It detects a change of a single
    element, and also a change of all signs.
    """
    return int(_checksum(array.reshape(-1).view(np.uint32)))


@precompiled(types.uint64(types.Array(types.uint32, 1, "C", readonly=True)))
def _checksum(words):  # type: ignore[no-untyped-def]
    total = np.uint64(0)
    for i in range(words.size):
        factor = np.uint32(i) * np.uint32(_FACTOR) | np.uint32(1)
        total += np.uint64(words[i]) * np.uint64(factor)
    return total
