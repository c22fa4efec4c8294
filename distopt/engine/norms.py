"""Norms from sums of squares per piece, whose bits do not depend on the division into shards."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from distopt.collectives import PIECE
from distopt.core.dtypes import is_narrow
from distopt.typing import Array

__all__ = ["norms_of_pieces", "sum_of_pieces", "sums_of_squares"]


def sums_of_squares(values: Array) -> Array:
    """The sum of squares of each piece of ``values``.

    A shard that starts at a multiple of :data:`PIECE` gives the same sums as the whole array does there.

    Args:
        values: ``[n]``, contiguous, float16, bfloat16, float32 or float64.

    Returns:
        ``[ceil(n / PIECE)]`` float64. Within a piece, element i is added to partial sum ``i % 512``, and the
        partial sums are added pairwise at the end. This order vectorizes, and is the same on any machine.
    """
    from distopt.engine import squares  # compiled code, which takes time to load

    if is_narrow(values.dtype):
        values = values.astype(np.float32)
    sums = np.empty(-(-values.size // PIECE), np.float64)
    add = squares.squares_float32 if values.dtype == np.float32 else squares.squares_float64
    add(values, sums)
    return sums


def norms_of_pieces(sums: Array, begins: Array) -> Array:
    """The l2 norms of variables: the root of the sum over each variable's pieces, added in order.

    Args:
        sums: the sums of squares of all pieces, ``[pieces]`` float64.
        begins: the index of each variable's first piece, then the number of pieces: ``[n + 1]`` int64.

    Returns:
        ``[n]`` float64.
    """
    from distopt.engine import squares  # compiled code, which takes time to load

    found = np.empty(len(begins) - 1)
    squares.norms(sums, begins, found)
    return found


def sum_of_pieces(sums: Iterable[Array]) -> float:
    """The sum of all numbers in ``sums``, added sequentially in the order given."""
    pieces = np.concatenate([np.zeros(1), *sums])
    return float(np.add.accumulate(pieces)[-1])
