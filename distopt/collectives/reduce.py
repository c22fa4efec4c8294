"""Reducing arrays over all replicas, in tree order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distopt.collectives.inter_node_reduce import InterNodeReduce
from distopt.collectives.tree import reduce_rows
from distopt.comm import Communicator
from distopt.typing import Array

__all__ = ["UFUNCS", "all_reduce", "reduce_joined"]

#: How each reduce op combines two values; a mean is a sum, divided at the end.
UFUNCS: dict[str, np.ufunc] = {"sum": np.add, "mean": np.add, "min": np.minimum, "max": np.maximum}

#: Elements sent at a time: far below MPI's count limit, far above its latency.
_BLOCK = 1 << 20


def all_reduce(comm: Communicator, flat: Array, op: str) -> Array:
    """The combination of every replica's ``flat``, the same bits on all of them.

    Each replica gets everyone's values of its own shard, combines them, and gives the result to
    all: the bytes of a ring, but the order of the sum is ours.

    Args:
        comm: the replicas.
        flat: 1-D, of one length and dtype everywhere; not changed.
        op: ``"sum"``, ``"min"`` or ``"max"``.

    Returns:
        a new array of ``flat``'s length and dtype.
    """
    if comm.size == 1:
        return flat.copy()
    out = np.empty_like(flat)
    ufunc = UFUNCS[op]
    if flat.size < comm.size * 64:  # too short to share out: everyone combines everything
        reduce_rows(comm.all_gather(flat), out, ufunc)
        return out
    reduction = InterNodeReduce(comm, [(r,) for r in range(comm.size)], ufunc)
    starts = range(0, flat.size, _BLOCK)
    totals = reduction.totals([flat[start : start + _BLOCK]] for start in starts)
    for start, total in zip(starts, totals, strict=True):
        out[start : start + total.size] = total
    return out


def reduce_joined(comm: Communicator, op: str, arrays: Sequence[Array]) -> list[Array]:
    """:func:`all_reduce` of arrays of one dtype and any shapes, which travel as one."""
    flat = np.concatenate([array.reshape(-1) for array in arrays])
    cuts = np.cumsum([array.size for array in arrays])[:-1]
    parts = np.split(all_reduce(comm, flat, op), cuts)
    return [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]
