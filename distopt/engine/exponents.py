"""Whether floats are finite, by their bits, in compiled code: see :mod:`distopt.engine.finite`."""

from __future__ import annotations

import numpy as np

from distopt.collectives.pointers import array_at, inlined
from distopt.comm.precompile import precompiled

__all__ = ["mark"]


@inlined
def _holds(numbers, exponent):  # type: ignore[no-untyped-def]
    """Whether in one of the numbers all bits of ``exponent`` are set: an infinity or NaN."""
    found = np.int32(0)
    for i in range(numbers.size):
        found |= np.int32((numbers[i] & exponent) == exponent)
    return found


@precompiled("void(int64[::1], int64[::1], int64, int64, int64[::1])")
def mark(starts, sizes, itemsize, exponent, found):  # type: ignore[no-untyped-def]
    """Marks those of some arrays of floats that hold an infinity or NaN.

    Args:
        starts: ``[n]`` their addresses.
        sizes: ``[n]`` their elements.
        itemsize: bytes of an element: 2, 4 or 8.
        exponent: the bits of its exponent.
        found: ``[n]``, written: 1 for those that do, else 0.
    """
    for k in range(starts.size):
        if itemsize == 2:
            found[k] = _holds(array_at(starts[k], sizes[k], np.int16), np.int16(exponent))
        elif itemsize == 4:
            found[k] = _holds(array_at(starts[k], sizes[k], np.int32), np.int32(exponent))
        else:
            found[k] = _holds(array_at(starts[k], sizes[k], np.int64), np.int64(exponent))
