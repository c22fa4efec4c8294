"""Matrix products with the same bits on any processor, so that any replica may compute them.

The order of a BLAS library's sums depends on its number of threads and on the processor. Here, one thread
computes each element of a product by a chain of fused multiply-adds in the order of the inner index. So the
bits depend on the factors only.
"""

from __future__ import annotations

import numpy as np

from distopt.typing import Array

__all__ = ["gram", "product"]

#: How many rows and columns to mirror at a time.
_SQUARE = 256


def product(a: Array, b: Array) -> Array:
    """``a @ b``.

    Args:
        a: ``[m, k]`` float32 or float64, with any strides.
        b: ``[k, n]`` of the same dtype.

    Returns:
        ``[m, n]``, a view of a larger array.
    """
    return _product(a, b.T, upper=False)


def gram(a: Array) -> Array:
    """``a @ a.T``, exactly symmetric, at half the cost of :func:`product`; arguments and result as there."""
    result = _product(a, a, upper=True)
    for start in range(0, len(result), _SQUARE):
        stop = start + _SQUARE
        result[start:stop, :start] = result[:start, start:stop].T
        square = result[start:stop, start:stop]
        np.copyto(square, square.T.copy(), where=np.tri(len(square), k=-1, dtype=bool))
    return result


def _product(a: Array, b: Array, upper: bool) -> Array:
    """``a @ b.T``; if ``upper``, only the elements on and above the diagonal are valid."""
    from distopt.engine import tiles  # compiled code, which takes time to load

    left, right = _packed(a, tiles.ROWS), _packed(b, tiles.COLUMN_BYTES // b.itemsize)
    result = np.zeros((len(left) * tiles.ROWS, len(right) * right.shape[2]), a.dtype)
    tiles.multiplier(a.dtype)(left, right, result, upper)
    whole: Array = result[: len(a), : len(b)]
    return whole


def _packed(x: Array, width: int) -> Array:
    """Packs ``[n, k]`` as ``[ceil(n / width), k, width]``, zero-padded, so a tile's input is contiguous."""
    full, rest = divmod(len(x), width)
    packed = np.empty((full + (rest > 0), x.shape[1], width), x.dtype)
    packed[:full] = x[: full * width].reshape(full, width, x.shape[1]).transpose(0, 2, 1)
    if rest:
        packed[full, :, :rest] = x[full * width :].T
        packed[full, :, rest:] = 0
    return packed
