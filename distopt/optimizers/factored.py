"""Second moments of gradients, kept as means of rows and columns, as in Adafactor.

Everything works on blocks that stay in the cache. The order of sums depends only on shapes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from distopt.engine.norms import sum_of_pieces, sums_of_squares
from distopt.typing import Array

__all__ = ["as_matrices", "mean_squares", "move_mean", "root_mean_square", "scaled", "scaled_rms"]

#: Elements of a block.
_BLOCK = 1 << 15


def as_matrices(x: Array, axes: tuple[int, int] = (-2, -1)) -> Array:
    """Reshapes ``x`` to ``[batch, rows, columns]``: ``axes`` last, all others merged. A view if possible."""
    moved = np.moveaxis(x, axes, (-2, -1))
    batch = int(np.prod(moved.shape[:-2], dtype=np.int64))
    return np.ascontiguousarray(moved).reshape(batch, *moved.shape[-2:])


def root_mean_square(x: Array) -> float:
    """The root mean square of all elements, computed in float64; NaN if there are none."""
    squares = sum_of_pieces([sums_of_squares(np.ascontiguousarray(x).reshape(-1))])
    return float(np.sqrt(squares / x.size)) if x.size else float("nan")


def mean_squares(g: Array, epsilon: float) -> tuple[Array, Array]:
    """The means of ``g**2 + epsilon`` over rows and columns.

    Args:
        g: ``[batch, rows, columns]``, contiguous.
        epsilon: a number.

    Returns:
        ``[batch, rows]`` and ``[batch, columns]``.
    """
    by_row = np.empty(g.shape[:2], g.dtype)
    by_column = np.zeros((g.shape[0], g.shape[2]), g.dtype)
    for part in _blocks(g.shape):
        square = np.square(g[part])
        np.add.reduce(square, axis=-1, out=by_row[part])
        by_column[part[0]] += np.add.reduce(square, axis=-2)
    return by_row / g.shape[2] + epsilon, by_column / g.shape[1] + epsilon


def move_mean(mean: Array, value: Array, share: float) -> None:
    """Updates a running mean in place: ``mean = (1 - share) * mean + share * value``."""
    mean *= 1 - share
    mean += share * value


def scaled(
    g: Array, rows: Array, columns: Array, floor: float
) -> Iterator[tuple[tuple[slice, slice], Array]]:
    """``g / sqrt(v)`` with ``v = max(rows * columns, floor)``, block by block.

    Args:
        g: ``[batch, rows, columns]``, contiguous.
        rows: ``[batch, rows]``.
        columns: ``[batch, columns]``.
        floor: the lower limit of a second moment.

    Yields:
        The position of a block in the first two axes, and its values, which the next block overwrites.
    """
    scratch = np.empty(max(_BLOCK, g.shape[2]), g.dtype)
    for part in _blocks(g.shape):
        block = g[part]
        moment = scratch[: block.size].reshape(block.shape)
        np.multiply(rows[part][..., None], columns[part[0]][:, None, :], out=moment)
        np.maximum(moment, floor, out=moment)
        np.sqrt(moment, out=moment)
        np.divide(block, moment, out=moment)
        yield part, moment


def scaled_rms(g: Array, rows: Array, columns: Array, floor: float) -> float:
    """The root mean square of :func:`scaled`, computed in float64; NaN if there are no elements."""
    squares = [
        sums_of_squares(np.ascontiguousarray(block).reshape(-1))
        for _, block in scaled(g, rows, columns, floor)
    ]
    return float(np.sqrt(sum_of_pieces(squares) / g.size)) if g.size else float("nan")


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Yields the slices of blocks of ``[batch, rows, columns]``: whole matrices, or rows of one."""
    batch, rows, columns = shape
    if 0 in shape:
        return
    together = _BLOCK // (rows * columns)
    if together:
        for start in range(0, batch, together):
            yield slice(start, start + together), slice(None)
        return
    height = max(1, _BLOCK // columns)
    for matrix in range(batch):
        for start in range(0, rows, height):
            yield slice(matrix, matrix + 1), slice(start, start + height)
