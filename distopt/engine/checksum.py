"""Checksums that tell whether memory has changed, at the memory's speed."""

from __future__ import annotations

import numpy as np
from numba import types

from distopt.comm.precompile import precompiled
from distopt.typing import Array

__all__ = ["checksum"]

#: Odd, from the golden ratio (Knuth, The Art of Computer Programming 3, section 6.4).
_FACTOR = 2654435769


def checksum(array: Array) -> int:
    """A number that other contents would hardly give: 64 bits, of a C-contiguous array of 4-byte words.

    The products of all words with pseudo-random odd numbers are added up. That sees a change of sign of all
    elements, and a change of one.
    """
    return int(_checksum(array.reshape(-1).view(np.uint32)))


@precompiled(types.uint64(types.Array(types.uint32, 1, "C", readonly=True)))
def _checksum(words):  # type: ignore[no-untyped-def]
    total = np.uint64(0)
    for i in range(words.size):
        factor = np.uint32(i) * np.uint32(_FACTOR) | np.uint32(1)
        total += np.uint64(words[i]) * np.uint64(factor)
    return total
