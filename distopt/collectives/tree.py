"""The order of all sums: one binary tree over the replica numbers.

Neighbours are added first, ``(0+1) (2+3) (4+5) ...``, then pairs of these sums, and so on; a sum without a
partner moves up one level. Floating-point sums depend on the order of additions. Because the order is fixed,
8 replicas compute the same bits as 8 processes, as 2 processes of 4 replicas, or as 8 threads of one process.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from distopt.typing import Array

__all__ = ["live_rows", "local_pairs", "reduce_rows", "tree_pairs"]

#: How many elements to combine at a time, so that the rows of a chunk stay in the cache.
_CHUNK = 16384


@lru_cache(maxsize=256)
def tree_pairs(size: int) -> tuple[tuple[int, int], ...]:
    """The pairs of the tree: the operations ``row[i] += row[j]``, in order, that leave the total in row 0.

    >>> tree_pairs(5)
    ((0, 1), (2, 3), (0, 2), (0, 4))
    """
    pairs = []
    stride = 1
    while stride < size:
        pairs += [(i, i + stride) for i in range(0, size - stride, 2 * stride)]
        stride *= 2
    return tuple(pairs)


@lru_cache(maxsize=256)
def local_pairs(size: int, members: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """The pairs of the tree over ``size`` replicas that ``members`` can add without other replicas.

    >>> local_pairs(6, (0, 1, 2))
    ((0, 1),)
    """
    pairs = []
    complete, stride = set(members), 1
    while len(complete) > 1:  # all of them are multiples of the stride
        left = {i for i in complete if i % (2 * stride) == 0}
        made = sorted(i for i in left if i + stride in complete)
        pairs += [(i, i + stride) for i in made]
        complete = {i for i in left if i + stride >= size}.union(made)
        stride *= 2
    return tuple(pairs)


@lru_cache(maxsize=256)
def live_rows(size: int, members: tuple[int, ...]) -> tuple[int, ...]:
    """The rows that contain partial sums after :func:`local_pairs`, to be sent to other nodes."""
    spent = {j for _, j in local_pairs(size, members)}
    return tuple(m for m in members if m not in spent)


def reduce_rows(
    rows: Sequence[Array],
    out: Array,
    ufunc: np.ufunc = np.add,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> None:
    """Combines 1-D rows of equal length in tree order into ``out``; the rows do not change.

    Args:
        rows: one row per replica, by number.
        out: the result, of the rows' length and dtype; may be row 0 itself.
        ufunc: ``np.add``, ``np.minimum`` or ``np.maximum``.
        pairs: the pairs to combine, in order; by default the tree over all rows.
    """
    order = tree_pairs(len(rows)) if pairs is None else pairs
    if len(order) == 0:
        np.copyto(out, rows[0])
        return
    scratch = np.empty((len(rows), min(_CHUNK, out.size)), out.dtype)
    for start in range(0, out.size, _CHUNK):
        part = slice(start, min(start + _CHUNK, out.size))
        current = [row[part] for row in rows]
        for i, j in order:
            target = out[part] if (i, j) == order[-1] else scratch[i, : current[i].size]
            ufunc(current[i], current[j], out=target)
            current[i] = target
