"""Sums of squares whose bits do not depend on who computes which part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np

from distopt.typing import Array

__all__ = ["BLOCK", "sum_of_blocks", "sums_of_squares"]

#: Elements of a variable that are summed together; blocks are counted from the variable's start.
BLOCK = 1 << 12
_LANES = 512


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
    total = 0.0
    for blocks in sums:
        for value in blocks.tolist():
            total += value
    return total


@cache
def _kernel(dtype: np.dtype[Any]) -> Callable[[Array, Array], None]:
    import numba

    read = numba.types.Array(numba.from_dtype(dtype), 1, "C", readonly=True)
    signature = (read, numba.types.Array(numba.float64, 1, "C"))
    try:
        kernel = _squares(numba.njit(cache=True, nogil=True, error_model="numpy"))
        kernel.compile(signature)
    except Exception:
        # A cache that cannot be written or read is no error.
        kernel = _squares(numba.njit(nogil=True, error_model="numpy"))
        kernel.compile(signature)
    kernel.disable_compile()
    return kernel  # type: ignore[no-any-return]


def _squares(jit: Callable[[Any], Any]) -> Any:
    block, lanes = BLOCK, _LANES

    @jit
    def kernel(values, sums):  # type: ignore[no-untyped-def]
        partial = np.empty(lanes)
        for b in range(sums.size):
            x = values[b * block : (b + 1) * block]
            partial[:] = 0
            for start in range(0, x.size, lanes):
                y = x[start : start + lanes]
                for i in range(y.size):
                    value = np.float64(y[i])
                    partial[i] += value * value
            half = lanes // 2
            while half > 0:
                for i in range(half):
                    partial[i] += partial[i + half]
                half //= 2
            sums[b] = partial[0]

    return kernel
