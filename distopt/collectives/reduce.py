"""Reducing arrays over all replicas, in tree order."""

from __future__ import annotations

import numpy as np

from distopt.collectives.tree import reduce_rows
from distopt.comm import Communicator
from distopt.typing import Array

__all__ = ["UFUNCS", "all_reduce", "shard_bounds"]

#: How each reduce op combines two values; a mean is a sum, divided at the end.
UFUNCS: dict[str, np.ufunc] = {"sum": np.add, "mean": np.add, "min": np.minimum, "max": np.maximum}

#: Elements sent at a time: far below MPI's count limit, far above its latency.
_BLOCK = 1 << 20


def shard_bounds(length: int, parts: int) -> list[int]:
    """Cuts ``length`` elements into ``parts`` nearly equal runs: part p is ``[b[p], b[p + 1])``."""
    return [length * p // parts for p in range(parts + 1)]


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
    for start in range(0, flat.size, _BLOCK):
        part = flat[start : start + _BLOCK]
        out[start : start + part.size] = _reduce_block(comm, part, UFUNCS[op])
    return out


def _reduce_block(comm: Communicator, part: Array, ufunc: np.ufunc) -> Array:
    if part.size < comm.size * 64:  # too short to share out: everyone combines everything
        total = np.empty_like(part)
        reduce_rows(comm.all_gather(part), total, ufunc)
        return total
    padded = -(-part.size // comm.size)  # equal shards, so that one all-gather brings them together
    bounds = [min(padded * r, part.size) for r in range(comm.size + 1)]
    rows = comm.all_to_all([part[bounds[r] : bounds[r + 1]] for r in range(comm.size)])
    shard = np.zeros(padded, part.dtype)
    own = bounds[comm.rank + 1] - bounds[comm.rank]
    reduce_rows(rows, shard[:own], ufunc)
    return np.concatenate(comm.all_gather(shard))[: part.size]
