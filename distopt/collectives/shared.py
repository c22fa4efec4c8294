"""Allocates memory that the replicas of a node share."""

from __future__ import annotations

from distopt.comm import NodeCommunicator, SharedBlock
from distopt.typing import Array

__all__ = ["SharedScratch", "shared_block", "shared_memory"]

#: Bytes of the smallest scratch memory: enough for the norms of most models.
_LEAST = 1 << 14


def shared_memory(node: NodeCommunicator, nbytes: int) -> Array:
    """Allocates zero-filled bytes that all replicas of the node see; collective.

    Raises:
        MemoryError: the node has not enough memory.
    """
    return shared_block(node, nbytes).bytes


def shared_block(node: NodeCommunicator, nbytes: int, views: bool = False) -> SharedBlock:
    """Allocates a block of zero-filled memory that all replicas of the node see; collective.

    Args:
        node: the replicas of the node.
        nbytes: the length of the block.
        views: whether ``comm.private_view`` will be called for it.

    Raises:
        MemoryError: the node has not enough memory.
    """
    block = node.shared_block(nbytes, views)
    if block is None:
        raise MemoryError(
            f"no room for {nbytes:,} more bytes of shared memory on this node: use "
            f"MPIStrategy(memory='private'), or set DISTOPT_MEMORY=private"
        )
    return block


class SharedScratch:
    """Shared memory of a node for use within one call. It grows when a call needs more.

    Allocating it is collective. There is one for all calls and plans, so that all replicas allocate it at the
    same time, even if their caches of plans differ.

    Args:
        node: the replicas of the node.
    """

    def __init__(self, node: NodeCommunicator) -> None:
        self._node = node
        self._memory: Array | None = None

    def of(self, nbytes: int) -> Array:
        """At least ``nbytes`` bytes: the same array until a call needs more; collective."""
        if self._memory is None or self._memory.size < nbytes:
            before = 0 if self._memory is None else self._memory.size
            self._memory = shared_memory(self._node, max(nbytes, 2 * before, _LEAST))
        return self._memory
