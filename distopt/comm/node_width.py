"""How many replicas each node has, if nodes are pretended."""

from __future__ import annotations

import math
from collections import Counter

__all__ = ["node_width", "pretended_node"]


def pretended_node(rank: int, size: int, nodes: int) -> int:
    """The node of a replica, if ``nodes`` of them share ``size`` replicas out."""
    return rank * min(nodes, size) // size


def node_width(size: int, nodes: int) -> int:
    """How many of ``size`` replicas form a node: equal numbers, so that those across nodes are regular.

    >>> [node_width(8, nodes) for nodes in (0, 1, 2, 3, 4, 9)]
    [8, 8, 4, 1, 2, 1]
    """
    if nodes <= 1:
        return size
    return math.gcd(*Counter(pretended_node(rank, size, nodes) for rank in range(size)).values())
