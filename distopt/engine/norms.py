"""Sums of squares whose bits do not depend on who computes which part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np

from distopt.typing import Array

__all__ = ["BLOCK", "LANES", "sum_of_blocks", "sums_of_squares"]

#: Elements of a variable that are summed together; blocks are counted from the variable's start.
BLOCK = 1 << 12
LANES = 512


def sums_of_squares(values: Array) -> Array:
    """The sum of squares of each block of ``values``.

    A shard that begins at a multiple of :data:`BLOCK` has the same sums as that part of the whole.

    Args:
        values: ``[n]``, contiguous, float16, float32 or float64.

    Returns:
        ``[ceil(n / BLOCK)]`` float64. Within a block, 512 partial sums take the elements in turn and
        are added pairwise at the end: an order that vectorizes and does not depend on the machine.
    """
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    sums = np.empty(-(-values.size // BLOCK), np.float64)
    _kernel(values.dtype)(values, sums)
    return sums


def sum_of_blocks(sums: Iterable[Array]) -> float:
    """The block sums of several variables added up one after the other, in the order given."""
    blocks = np.concatenate([np.zeros(1), *sums])
    return float(np.add.accumulate(blocks)[-1])


@cache
def _kernel(dtype: np.dtype[Any]) -> Callable[[Array, Array], None]:
    from distopt.engine import squares

    return squares.squares_float32 if dtype == np.float32 else squares.squares_float64  # type: ignore[no-any-return]
