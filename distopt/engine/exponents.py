"""The compiled loop of :mod:`distopt.engine.finite`, which tests the exponent bits of floats."""

from __future__ import annotations

import numpy as np

from distopt.collectives.pointers import array_at, inlined
from distopt.comm.precompile import precompiled

__all__ = ["mark"]


@inlined
def _holds(numbers, exponent):  # type: ignore[no-untyped-def]
    """Whether any of the numbers has all bits of ``exponent`` set, as infinities and NaN do."""
    found = np.int32(0)
    for i in range(numbers.size):
        found |= np.int32((numbers[i] & exponent) == exponent)
    return found


@precompiled("void(int64[::1], int64[::1], int64, int64, int64[::1])")
def mark(starts, sizes, itemsize, exponent, found):  # type: ignore[no-untyped-def]
    """Finds arrays of floats that contain an infinity or NaN.

    Args:
        starts: ``[n]``, the addresses of the arrays.
        sizes: ``[n]``, their numbers of elements.
        itemsize: bytes of an element: 2, 4 or 8.
        exponent: a mask of the exponent bits of an element.
        found: ``[n]``, output: 1 for an array that contains one, else 0.
    """
    for k in range(starts.size):
        if itemsize == 2:
            found[k] = _holds(array_at(starts[k], sizes[k], np.int16), np.int16(exponent))
        elif itemsize == 4:
            found[k] = _holds(array_at(starts[k], sizes[k], np.int32), np.int32(exponent))
        else:
            found[k] = _holds(array_at(starts[k], sizes[k], np.int64), np.int64(exponent))
