"""The audit: from time to time replicas compare what they hold, so that none drifts away unseen."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from distopt.core.variable import Variable
from distopt.distribute import ReplicaContext
from distopt.errors import ReplicaMismatch

__all__ = ["audit"]


def audit(context: ReplicaContext, owner: str, state: Sequence[Variable], settings: str) -> None:
    """Compares variables, slots and hyperparameters over all replicas; collective.

    Args:
        context: this replica.
        owner: whose state it is, for messages.
        state: the variables to compare, in the same order everywhere.
        settings: the hyperparameters in words.

    Raises:
        ReplicaMismatch: on every replica, naming the first variable, element and replicas that part.
    """
    sums = np.array([zlib.crc32(v._array().tobytes()) for v in state] + [zlib.crc32(settings.encode())])
    comm = context.comm
    digest = zlib.crc32(sums.tobytes())
    digests = [int(d[0]) for d in comm.all_gather(np.array([digest], np.int64))]
    if len(set(digests)) == 1:
        return
    table = np.stack(comm.all_gather(sums.astype(np.int64)))
    place = int(np.argmax((table != table[0]).any(axis=0)))
    apart = np.flatnonzero(table[:, place] != table[0, place])
    who = f"replica{'s' if len(apart) > 1 else ''} {', '.join(map(str, apart))} from replica 0"
    if place == len(state):
        words = [w.decode() for w in comm.gather_bytes(settings.encode())]
        raise ReplicaMismatch(
            f"audit of {owner}: the hyperparameters of {who} differ: {words[int(apart[0])]} instead of "
            f"{words[0]}. Set them alike on all replicas"
        )
    variable = state[place]
    values = np.stack(comm.all_gather(np.ascontiguousarray(variable._array()).reshape(-1)))
    other = int(apart[0])
    index = int(np.argmax(values[other].view(np.uint8) != values[0].view(np.uint8))) // values.itemsize
    where = np.unravel_index(index, variable.shape) if variable.shape else ()
    raise ReplicaMismatch(
        f"audit of {owner}: {variable.name!r} parts {who}, first at element "
        f"{tuple(int(i) for i in where)}: {values[other][index]} instead of {values[0][index]}. Something "
        f"changed it on one replica only, such as unaggregated gradients or an assignment"
    )
