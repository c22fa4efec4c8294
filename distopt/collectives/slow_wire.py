"""Finds the node whose network is slow, from the times that replicas waited for messages of each node.

This is not always possible. With two nodes, each waits for the other, whichever is slow. With more, a node
may be late because it waited for a third one. If no single node is clearly slow, the result is the network
between the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distopt.collectives.ledger_layout import Phase
from distopt.typing import Array

__all__ = ["SlowWire", "slow_wire"]

#: With more than two nodes, a node is slow if the waits for its messages are at least _SENT of all waits. Or
#: if they are at least _SENT_TO_OTHERS of the other nodes' waits, and at most _ALONE of its own waits are for
#: a single node: else it may be late only because that node is. Measured with three nodes and 20 steps:
#: at most 0.71 if they are alike, 0.76 to 0.86 if one sends at a seventh of the others' speed.
_SENT, _SENT_TO_OTHERS, _ALONE = 2 / 3, 0.74, 0.9
#: Or if the waits for its messages and its own waits are at least _BOTH of all waits. Its own waits count
#: only if at most _ONE of them are for a single node.
_BOTH, _ONE = 0.9, 0.7
#: Two nodes must differ by this share of their waits for messages. Measured on a busy machine: by at most
#: 0.18 if they are alike, and mostly by 0.2 to 0.5 if one sends at a seventh of the other's speed.
_LEANS = 0.2
#: The waits whose peer is known must be this share of all waits for messages; with more than two nodes, the
#: second number. Measured with three nodes: a tenth if they are alike, more than a sixth if not.
_KNOWN, _KNOWN_OF_MORE = 0.01, 1 / 8


@dataclass(frozen=True)
class SlowWire:
    """A slow network: that of one node, or, unless ``clear``, that between nodes.

    Attributes:
        node: the number of the node.
        replicas: the numbers of its replicas.
        seconds: how long replicas have waited for messages, or for replicas that waited for messages, on
            average.
        share: the node's share of the waits whose peer is known.
        to: with two nodes, the number of the other one; else None.
        clear: whether ``node`` is clearly the slow one; if not, it may be another one.
    """

    node: int
    replicas: tuple[int, ...]
    seconds: float
    share: float
    to: int | None
    clear: bool = True

    def __str__(self) -> str:
        if not self.clear:
            return f"messages between {'nodes' if self.to is None else self.short}"
        numbers = ", ".join(map(str, self.replicas[:8])) + (", ..." if len(self.replicas) > 8 else "")
        plural = "s" if len(self.replicas) > 1 else ""
        whose, way = ("of", "") if self.to is None else ("from", f" to node {self.to}")
        return f"messages {whose} node {self.node} (replica{plural} {numbers}){way}"

    @property
    def short(self) -> str:
        """``node 1``, ``nodes 0 and 1``, or ``between nodes``."""
        if self.clear:
            return f"node {self.node}"
        return "between nodes" if self.to is None else "nodes 0 and 1"


def slow_wire(nodes: Array, waits: Array, spent: Array, late: float) -> SlowWire | None:
    """The slow network; None on one node, or if the peer of too few waits is known.

    A node with a slow network waits for all others, and they for it. With two nodes, both wait alike. But if
    one of them sends slowly, the other one gets its messages later, and so arrives late at the next call.

    Args:
        nodes: the node number of each replica, ``[replicas]``.
        waits: for each replica, the node that it waited for longest, the seconds that it waited for it, and
            for all nodes: ``[replicas, 3]``.
        spent: the seconds of each replica in each phase: ``[replicas, len(PHASES)]``.
        late: the seconds that replicas waited for others that messages had made late, on average.
    """
    count, known = int(nodes.max()) + 1, float(waits[:, 2].sum())
    wire = spent[:, Phase.WIRE]
    if count == 1 or known <= _KNOWN * wire.sum():
        return None
    peers = waits[:, 0].astype(np.int64)
    received = np.bincount(nodes, waits[:, 2], count)
    sent = np.bincount(peers, waits[:, 1], count)
    if count == 2:
        kept = np.bincount(nodes, wire + spent[:, Phase.IN_CALL], 2) / np.bincount(nodes)
        lean = float((received[0] - received[1]) / known + (kept[0] - kept[1]) / wire.mean())
        who, sure = int(lean > 0), abs(lean) >= _LEANS
        share, to = float(sent[who]) / known, 1 - who
    else:
        who, to = int(sent.argmax()), None
        longest = np.bincount(nodes, waits[:, 1], count)
        others = known - received[who]
        share, sure = float(sent[who]) / known, sent[who] >= _SENT * known
        sure = sure or (sent[who] >= _SENT_TO_OTHERS * others and longest[who] <= _ALONE * received[who])
        if not sure:
            either = sent + np.where(longest <= _ONE * received, received, 0)
            who = int(either.argmax())
            share, sure = float(either[who]) / known, either[who] >= _BOTH * known
        sure = sure and known >= _KNOWN_OF_MORE * wire.sum()
    replicas = tuple(np.flatnonzero(nodes == who).tolist())
    return SlowWire(who, replicas, float(wire.mean()) + late, share, to, bool(sure))
