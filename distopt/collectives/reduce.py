"""All-reduces of arrays, in tree order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distopt.collectives.inter_node_reduce import InterNodeReduce
from distopt.collectives.tree import reduce_rows
from distopt.comm import Communicator
from distopt.typing import Array

__all__ = ["UFUNCS", "all_reduce", "reduce_joined"]

#: The ufunc that combines two values for each reduce op; a mean is a sum that the caller divides.
UFUNCS: dict[str, np.ufunc] = {"sum": np.add, "mean": np.add, "min": np.minimum, "max": np.maximum}

#: Elements of a block: far below the limit of MPI's counts, and large enough that latency does not count.
_BLOCK = 1 << 20


def all_reduce(comm: Communicator, flat: Array, op: str) -> Array:
    """All-reduces an array. The result has the same bits on all replicas.

    Each replica reduces one shard and sends the result to all. This moves as many bytes as a ring all-reduce,
    but combines the values in tree order.

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
    if flat.size < comm.size * 64:  # too short to divide into shards: each replica reduces all of it
        reduce_rows(comm.all_gather(flat), out, ufunc)
        return out
    reduction = InterNodeReduce(comm, [(r,) for r in range(comm.size)], ufunc)
    starts = range(0, flat.size, _BLOCK)
    totals = reduction.totals([flat[start : start + _BLOCK]] for start in starts)
    for start, total in zip(starts, totals, strict=True):
        out[start : start + total.size] = total
    return out


def reduce_joined(comm: Communicator, op: str, arrays: Sequence[Array]) -> list[Array]:
    """:func:`all_reduce` of several arrays of one dtype, concatenated to save messages."""
    flat = np.concatenate([array.reshape(-1) for array in arrays])
    cuts = np.cumsum([array.size for array in arrays])[:-1]
    parts = np.split(all_reduce(comm, flat, op), cuts)
    return [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]
