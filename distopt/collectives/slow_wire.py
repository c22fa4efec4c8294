"""Which node's network is the slow one: whose messages the replicas of other nodes wait for.

Of two nodes each waits for the other, whichever is slow; of more, nodes wait for what others wait for. Where
that leaves it open whose messages are late, it is the network between the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distopt.collectives.ledger_layout import Phase
from distopt.typing import Array

__all__ = ["SlowWire", "slow_wire"]

#: Of more than two nodes that one is slow which has sent so much of what was waited for; or so much of what
#: others waited for, if it does not wait for one alone, as it would for what that one waits for. Measured for
#: three, 20 steps: 0.71 at most if they are alike, 0.76 to 0.86 if one sends a seventh as fast as the others.
_SENT, _SENT_TO_OTHERS, _ALONE = 2 / 3, 0.74, 0.9
#: Or that one which has sent or received so much, if it waits for several others.
_BOTH, _ONE = 0.9, 0.7
#: Two nodes must differ by so much of the time that they wait for messages. Measured on a busy machine: by
#: 0.18 at most if they are alike, and mostly by 0.2 to 0.5 if one sends a seventh as fast as the other.
_LEANS = 0.2
#: Waits that are known by peer must be so much of all the waits for messages, else they tell little of them;
#: of more than two nodes so much. Measured for three: a tenth if they are alike, more than a sixth if not.
_KNOWN, _KNOWN_OF_MORE = 0.01, 1 / 8


@dataclass(frozen=True)
class SlowWire:
    """The network of one node, or that between nodes.

    Attributes:
        node: the number of the node.
        replicas: its replicas.
        seconds: how long replicas have waited for messages, and for others that waited for them, on average.
        share: its part of the waits known by peer.
        to: with two nodes the other one; else None.
        clear: whether messages of ``node`` are known to be late; otherwise it may be another.
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
    """The one that most waits are due to, if that is clear; None if too few waits are known by peer.

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
