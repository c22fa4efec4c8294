"""The audit: periodically, the replicas compare their state, to detect silent divergence."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from distopt.comm import Communicator
from distopt.distribute import ReplicaContext
from distopt.errors import ReplicaMismatch
from distopt.typing import Array

__all__ = ["audit"]


def audit(
    context: ReplicaContext, call: str, state: Sequence[tuple[str, Array]], advice: str, settings: str = ""
) -> None:
    """Compares arrays and settings over all replicas; collective.

    Args:
        context: the replica's context.
        call: name of the call, for messages.
        state: names and arrays to compare, in the same order on all replicas.
        advice: the end of the error message: why an array may differ.
        settings: text with the hyperparameters, which are compared too.

    Raises:
        ReplicaMismatch: on every replica, naming the first array, element and replicas that differ.
        ReplicaFailed: another replica failed before the audit.
    """
    # The audit has its own header, because the code before it may have failed on one replica only.
    context.collective_check.check(f"audit of {call}", 0, lambda: f"audit of {call}")
    parts = [zlib.crc32(repr(array.shape).encode() + array.tobytes()) for _, array in state]
    sums = np.array([*parts, zlib.crc32(settings.encode())])
    comm = context.comm
    digest = zlib.crc32(sums.tobytes())
    digests = [int(d[0]) for d in comm.all_gather(np.array([digest], np.int64))]
    if len(set(digests)) == 1:
        return
    table = np.stack(comm.all_gather(sums.astype(np.int64)))
    place = int(np.argmax((table != table[0]).any(axis=0)))
    apart = np.flatnonzero(table[:, place] != table[0, place])
    other = int(apart[0])
    numbers = context.numbers
    parted = ", ".join(str(numbers[int(r)]) for r in apart)
    who = f"replica{'s' if len(apart) > 1 else ''} {parted}"
    if place == len(state):
        described = [text.decode() for text in comm.gather_bytes(settings.encode())]
        raise ReplicaMismatch(
            f"audit of {call}: the hyperparameters of {who} differ from those of replica {numbers[0]}: "
            f"{described[other]} instead of {described[0]}. Set the same values on all replicas"
        )
    name, array = state[place]
    where = _where(comm, array, other)
    raise ReplicaMismatch(
        f"audit of {call}: {name} on {who} differs from that on replica {numbers[0]}, {where}. {advice}"
    )


def _where(comm: Communicator, array: Array, other: int) -> str:
    """The first difference between the arrays of replicas 0 and ``other``, for a message; collective."""
    shapes = [w.decode() for w in comm.gather_bytes(repr(array.shape).encode())]
    if len(set(shapes)) > 1:
        return f"by its shape: {shapes[other]} instead of {shapes[0]}"
    values = np.stack(comm.all_gather(np.ascontiguousarray(array).reshape(-1)))
    index = int(np.argmax(values[other].view(np.uint8) != values[0].view(np.uint8))) // values.itemsize
    element = tuple(int(i) for i in np.unravel_index(index, array.shape)) if array.shape else ()
    return f"first at element {element}: {values[other][index]} instead of {values[0][index]}"
