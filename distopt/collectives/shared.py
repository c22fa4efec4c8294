"""Memory that the replicas on a node work in together."""

from __future__ import annotations

from distopt.comm import Communicator
from distopt.typing import Array

__all__ = ["shared_memory"]


def shared_memory(node: Communicator, nbytes: int) -> Array:
    """Zero-filled bytes that all replicas of the node see; collective.

    Raises:
        MemoryError: there is no room.
    """
    block = node.shared_block(nbytes)
    if block is None:
        raise MemoryError(
            f"no room for {nbytes:,} more bytes of shared memory on this node: use "
            f"MPIStrategy(memory='private'), or set DISTOPT_MEMORY=private"
        )
    return block.bytes
