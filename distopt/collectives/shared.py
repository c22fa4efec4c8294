"""Memory that the replicas on a node work in together."""

from __future__ import annotations

from distopt.comm import NodeCommunicator, SharedBlock
from distopt.typing import Array

__all__ = ["SharedScratch", "shared_block", "shared_memory"]

#: Bytes of the smallest scratch memory: enough for the norms of most models.
_LEAST = 1 << 14


def shared_memory(node: NodeCommunicator, nbytes: int) -> Array:
    """Zero-filled bytes that all replicas of the node see; collective.

    Raises:
        MemoryError: there is no room.
    """
    return shared_block(node, nbytes).bytes


def shared_block(node: NodeCommunicator, nbytes: int, views: bool = False) -> SharedBlock:
    """A block of such memory; collective.

    Args:
        node: the replicas that see it.
        nbytes: its length.
        views: whether ``comm.private_view`` is asked for views of it.

    Raises:
        MemoryError: there is no room.
    """
    block = node.shared_block(nbytes, views)
    if block is None:
        raise MemoryError(
            f"no room for {nbytes:,} more bytes of shared memory on this node: use "
            f"MPIStrategy(memory='private'), or set DISTOPT_MEMORY=private"
        )
    return block


class SharedScratch:
    """Memory of a node for what lasts no longer than a call. It grows when a call needs more.

    One for all calls: so all replicas make it together, whatever else each of them has kept or forgotten.

    Args:
        node: the replicas that see it.
    """

    def __init__(self, node: NodeCommunicator) -> None:
        self._node = node
        self._memory: Array | None = None

    def of(self, nbytes: int) -> Array:
        """At least so many bytes, the same array until more are needed; collective."""
        if self._memory is None or self._memory.size < nbytes:
            before = 0 if self._memory is None else self._memory.size
            self._memory = shared_memory(self._node, max(nbytes, 2 * before, _LEAST))
        return self._memory
