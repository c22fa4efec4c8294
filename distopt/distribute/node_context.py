"""The context of a replica within its node. Its collective calls send nothing to other nodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from distopt.comm import SoloCommunicator
from distopt.distribute.context import ReplicaContext
from distopt.distribute.frames import current_frame, frame

__all__ = ["node_context", "within_node"]


def node_context(context: ReplicaContext) -> ReplicaContext:
    """Returns the context of the replica within its node. Creating it is collective over the job.

    Args:
        context: the replica in its job.

    Returns:
        ``context`` itself if the job has one node; otherwise always the same object.
    """
    world = context.world
    if world.node.size == world.comm.size:
        return context
    found: ReplicaContext | None = context.attached.get(node_context)
    if found is None:
        numbers = [int(number[0]) for number in world.node.all_gather(np.array([world.comm.rank]))]
        node = world.node
        alone = replace(world, comm=node, cross=SoloCommunicator(), local=world.local_node)
        found = ReplicaContext(context.strategy, alone, context, numbers)
        context.attached[node_context] = found
    return found


@contextmanager
def within_node(context: ReplicaContext) -> Iterator[ReplicaContext]:
    """A ``with`` block in which the replica sees only its node. Steps and collective calls stay in the node.

    Args:
        context: the replica in its job.
    """
    found, here = node_context(context), current_frame()
    with frame(here.strategy, found, here.kind):
        yield found
