"""Which node's network is the slow one: whose messages the replicas of other nodes wait for.

Of two nodes each waits for the other, whichever is slow. Only if one waits much longer is it known whose
messages are late; otherwise it is the wire between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distopt.collectives.ledger_layout import Phase
from distopt.typing import Array

__all__ = ["SlowWire", "slow_wire"]

#: Of the waits that are known by peer one node must have a share that is nearer to all of it than to an equal
#: one, by this part of the way.
_CLEAR = 0.7
#: Two nodes must differ by so much of the time that they wait for messages. Measured on a busy machine: 0.2 at
#: most if they are alike, and mostly 0.2 to 0.5 if one sends a seventh as fast as the other.
_LEANS = 0.2
#: ... and they must be this part of all the waits for messages, else they tell little of them.
_KNOWN = 0.01


@dataclass(frozen=True)
class SlowWire:
    """The network of one node, or the wire between two.

    Attributes:
        node: the number of the node.
        replicas: its replicas.
        seconds: how long replicas have waited for messages, and for others that waited for them, on average.
        share: the part of the waits known by peer in which the node was on either side, or, with two nodes,
            the sender.
        to: with two nodes the other one; else None.
        clear: whether messages of ``node`` are known to be late; with two nodes it may be either.
    """

    node: int
    replicas: tuple[int, ...]
    seconds: float
    share: float
    to: int | None
    clear: bool = True

    def __str__(self) -> str:
        if not self.clear:
            return f"messages between {self.short}"
        numbers = ", ".join(map(str, self.replicas[:8])) + (", ..." if len(self.replicas) > 8 else "")
        plural = "s" if len(self.replicas) > 1 else ""
        whose, way = ("of", "") if self.to is None else ("from", f" to node {self.to}")
        return f"messages {whose} node {self.node} (replica{plural} {numbers}){way}"

    @property
    def short(self) -> str:
        """``node 1``, or ``nodes 0 and 1``."""
        return f"node {self.node}" if self.clear else "nodes 0 and 1"


def slow_wire(nodes: Array, waits: Array, spent: Array, late: float) -> SlowWire | None:
    """The one that most waits are due to, or the wire between two nodes; None if it is neither.

    A node whose network is slow waits for all others, and they for it. With two nodes that is the same for
    both. But messages of one that sends slowly keep the other longer, which then comes late to the next call.

    Args:
        nodes: the number of each replica's node.
        waits: of each replica the node that it waited for longest, for how many seconds, and for how many
            seconds it waited for any; ``[replicas, 3]``.
        spent: the seconds of each replica in each phase, see ``PHASES``.
        late: for how many seconds replicas have waited for others that messages made late, on average.
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
        who, clear = int(lean > 0), abs(lean) >= _LEANS
        share, to = float(sent[who]) / known, 1 - who
    else:
        blamed = sent + received
        who, to = int(blamed.argmax()), None
        share = float(blamed[who]) / known
        clear = share >= _CLEAR + (1 - _CLEAR) * 2 / count
        if not clear:
            return None
    replicas = tuple(np.flatnonzero(nodes == who).tolist())
    return SlowWire(who, replicas, float(wire.mean()) + late, share, to, clear)
