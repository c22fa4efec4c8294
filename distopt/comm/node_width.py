"""How replicas are divided among simulated nodes."""

from __future__ import annotations

import math
from collections import Counter

__all__ = ["node_width", "simulated_node"]


def simulated_node(rank: int, size: int, nodes: int) -> int:
    """The node of a replica, if ``size`` replicas are divided among ``nodes`` nodes."""
    return rank * min(nodes, size) // size


def node_width(size: int, nodes: int) -> int:
    """The number of replicas of each node. It must be the same for all nodes, see ``mpi_world._node_group``.

    >>> [node_width(8, nodes) for nodes in (0, 1, 2, 3, 4, 9)]
    [8, 8, 4, 1, 2, 1]
    """
    if nodes <= 1:
        return size
    return math.gcd(*Counter(simulated_node(rank, size, nodes) for rank in range(size)).values())
