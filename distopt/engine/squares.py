"""The compiled loops of :mod:`distopt.engine.norms`."""

from __future__ import annotations

import numpy as np

from distopt.collectives.partition import PIECE
from distopt.collectives.pointers import inlined
from distopt.comm.precompile import precompiled

__all__ = ["add_squares", "norms", "squares_float32", "squares_float64"]

#: The number of partial sums of a piece.
_LANES = 512


@inlined
def add_squares(values, sums):  # type: ignore[no-untyped-def]
    """Writes the sum of squares of each piece of ``values`` to ``sums``."""
    partial = np.empty(_LANES)
    for b in range(sums.size):
        x = values[b * PIECE : (b + 1) * PIECE]
        partial[:] = 0
        for start in range(0, x.size, _LANES):
            y = x[start : start + _LANES]
            for i in range(y.size):
                value = np.float64(y[i])
                partial[i] += value * value
        half = _LANES // 2
        while half > 0:
            for i in range(half):
                partial[i] += partial[i + half]
            half //= 2
        sums[b] = partial[0]


@precompiled("void(Array(float32, 1, 'C', True), float64[::1])")
def squares_float32(values, sums):  # type: ignore[no-untyped-def]
    """:func:`add_squares` of float32."""
    add_squares(values, sums)


@precompiled("void(Array(float64, 1, 'C', True), float64[::1])")
def squares_float64(values, sums):  # type: ignore[no-untyped-def]
    """:func:`add_squares` of float64."""
    add_squares(values, sums)


@precompiled("void(float64[::1], int64[::1], float64[::1])")
def norms(sums, begins, found):  # type: ignore[no-untyped-def]
    """See ``norms.norms_of_pieces``; writes ``found``."""
    for i in range(found.size):
        total = 0.0
        for k in range(begins[i], begins[i + 1]):
            total += sums[k]
        found[i] = np.sqrt(total)
