"""Sums of squares whose bits do not depend on who computes which part."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from distopt.collectives import PIECE
from distopt.core.dtypes import is_narrow
from distopt.typing import Array

__all__ = ["norms_of_pieces", "sum_of_pieces", "sums_of_squares"]


def sums_of_squares(values: Array) -> Array:
    """The sum of squares of each piece of ``values``.

    A shard that begins at a multiple of :data:`PIECE` has the same sums as that part of the whole.

    Args:
        values: ``[n]``, contiguous, float16, bfloat16, float32 or float64.

    Returns:
        ``[ceil(n / PIECE)]`` float64. Within a piece, 512 partial sums take the elements in turn and
        are added pairwise at the end: an order that vectorizes and does not depend on the machine.
    """
    from distopt.engine import squares  # compiled code, which takes time to load

    if is_narrow(values.dtype):
        values = values.astype(np.float32)
    sums = np.empty(-(-values.size // PIECE), np.float64)
    add = squares.squares_float32 if values.dtype == np.float32 else squares.squares_float64
    add(values, sums)
    return sums


def norms_of_pieces(sums: Array, begins: Array) -> Array:
    """The norms of variables: the roots of the sums over their pieces, each added up in their order.

    Args:
        sums: the sums of squares of all pieces, ``[pieces]`` float64.
        begins: where each variable's begin, and where the last one's end, ``[n + 1]`` int64.

    Returns:
        ``[n]`` float64.
    """
    from distopt.engine import squares  # compiled code, which takes time to load

    found = np.empty(len(begins) - 1)
    squares.norms(sums, begins, found)
    return found


def sum_of_pieces(sums: Iterable[Array]) -> float:
    """The sums over pieces of several variables added up one after the other, in the order given."""
    pieces = np.concatenate([np.zeros(1), *sums])
    return float(np.add.accumulate(pieces)[-1])
