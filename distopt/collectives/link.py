"""Link: what messages between nodes cost, measured once; and what follows from it for the exchange.

The model is that of latency and bandwidth (Hockney, "The communication challenge for MPP", Parallel
Computing 20(3), 1994), with the messages of a round one after the other at their sender.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from distopt.collectives.node_rounds import Load, load
from distopt.collectives.transfers import Members
from distopt.comm import Communicator

__all__ = [
    "AHEAD",
    "TYPICAL",
    "TYPICAL_BYTES",
    "BlockSizes",
    "Link",
    "block_factor",
    "block_sizes",
    "cheapest_rule",
    "exchange_seconds",
    "measured_link",
]

#: Blocks that travel while one is used: their latencies pass at once.
AHEAD = 2
#: Blocks grow until what they wait for latency and messages is this part of their time, or up to the most.
_WAITING, _MOST = 0.1, 8
#: How many blocks a step has at least, if they are larger than need be: where latency counts, and elsewhere.
_FEW, _MANY = 8, 32
#: Elements that a replica sends of a block at least.
_SHORTEST = 1 << 17
#: Bytes of an element, to judge what blocks cost.
TYPICAL_BYTES = 4
#: The nodes up to which these rules may be the fastest. With more of them, many messages of few bytes have
#: nothing left to save, and to plan them would take longer, N^2; the fewest partial sums saved 2 % at most.
_DIRECT, _FEWEST = 256, 8
#: Seconds that measuring takes, about, if three of its messages do not take longer; repeats of what is short.
_LIMIT, _REPEATS = 0.04, 8
#: The bytes of the messages that show what a byte costs: those of the first, and of the second at most.
_SHORT, _LONG = 1 << 16, 1 << 21
_SEVERAL = 8
#: What no network does better: 0.1 us, 1 Tbit/s. Noise may say so.
_LEAST = (1e-7, 1e-7, 8e-12)


@dataclass(frozen=True)
class Link:
    """What messages between two nodes cost, in seconds, while all nodes send.

    Attributes:
        latency: from one node to another, for the first message of a round.
        message: for each further one.
        byte: for each byte, in each direction at once.
    """

    latency: float
    message: float
    byte: float

    def __str__(self) -> str:
        return f"{1e6 * self.latency:.0f} us, {8e-6 / self.byte:,.0f} Mbit/s"


#: A network of 10 Gbit/s, where none has been measured.
TYPICAL = Link(5e-5, 1e-5, 8e-10)


def exchange_seconds(takes: Load, nbytes: int, link: Link) -> float:
    """How long one of many exchanges of blocks of ``nbytes`` bytes keeps a node waiting."""
    return _waiting(takes, link) + takes.blocks * nbytes * link.byte


def _waiting(takes: Load, link: Link) -> float:
    return takes.rounds * link.latency / (1 + AHEAD) + takes.messages * link.message


@lru_cache(maxsize=256)
def cheapest_rule(members: Members, nbytes: int, link: Link) -> str:
    """The rule by which blocks of ``nbytes`` bytes are exchanged fastest; the same on all nodes."""
    rules = ["halving"]
    if len(members) <= _DIRECT:
        rules.append("direct")
    if len(members) <= _FEWEST and len(members) < sum(map(len, members)):
        rules.append("fewest")
    return min(rules, key=lambda rule: exchange_seconds(load(members, rule), nbytes, link))


def block_factor(members: Members, nbytes: int, link: Link) -> int:
    """How much larger blocks of ``nbytes`` bytes should be, so that latency is a small part of their time."""
    factor = 1
    while factor < _MOST:
        takes = load(members, cheapest_rule(members, factor * nbytes, link))
        if _waiting(takes, link) < _WAITING * exchange_seconds(takes, factor * nbytes, link):
            break
        factor *= 2
    return factor


@dataclass(frozen=True)
class BlockSizes:
    """How many elements a block has. While one block is used others travel, so large ones need many elements.

    Attributes:
        least: the smallest block.
        most: the largest one.
        count: how many blocks there are at least, if they are larger than the smallest.
    """

    least: int
    most: int
    count: int

    def of(self, elements: int) -> int:
        """The elements of a block, for arrays of so many in all."""
        return min(self.most, max(elements // self.count, self.least))


def block_sizes(usual: int, replicas: int, members: Members, link: Link) -> BlockSizes:
    """The sizes of blocks that travel: larger than usual where latency counts, else smaller for small models.

    What is left to send after the backward pass, or to receive before the last update, is a block.

    Args:
        usual: the elements of a block on one node.
        replicas: of each node, each of which sends its part of a block.
        members: the nodes.
        link: what messages between them cost.
    """

    def factor(elements: int) -> int:
        return block_factor(members, TYPICAL_BYTES * elements // replicas, link)

    if (larger := factor(usual)) > 1:
        return BlockSizes(usual, larger * usual, _FEW)
    small = min(usual, max(usual // 4, _SHORTEST * replicas))
    return BlockSizes(small if factor(small) == 1 else usual, usual, _MANY)


def measured_link(
    cross: Communicator, job: Communicator, clock: Callable[[], float] = time.perf_counter
) -> Link:
    """Measures it, collectively, in 40 ms where latency is below 1 ms; the same on all replicas.

    Args:
        cross: the nodes, at least two.
        job: all replicas.
        clock: tells seconds.
    """
    way, ways = partial(_way_seconds, cross, 1), partial(_way_seconds, cross, _SEVERAL)
    way(clock)  # connects
    timings = _Timings(job, clock)
    latency, several = timings.take(way), timings.take(ways)
    nbytes, ring = _SHORT, timings.take(partial(_ring_seconds, cross, _SHORT))
    if timings.left > 0:
        # Two of them, and the clock of a busy machine: a part of what is left.
        byte = max(ring - latency, 1e-9) / nbytes
        nbytes = int(np.clip(timings.left / 8 / byte, _SHORT, _LONG))
        ring = timings.take(partial(_ring_seconds, cross, nbytes))
    for _ in range(_REPEATS):
        if timings.left <= 0:
            break
        latency, several = min(latency, timings.take(way)), min(several, timings.take(ways))
    found = (latency, (several - latency) / (_SEVERAL - 1), (ring - latency) / nbytes)
    return Link(*map(max, found, _LEAST))


class _Timings:
    """Measurements that replicas take together.

    Args:
        job: all replicas.
        clock: tells seconds.

    Attributes:
        left: the seconds that the replica which has the fewest will have left after another one that takes as
            long as the longest; the same on all.
    """

    def __init__(self, job: Communicator, clock: Callable[[], float]) -> None:
        self._job, self._clock, self._begin = job, clock, clock()
        self.left, self._spent, self._longest = _LIMIT, 0.0, 0.0

    def take(self, measure: Callable[[Callable[[], float]], float]) -> float:
        """Takes one, by a clock; returns the median over all replicas."""
        seconds = measure(self._clock)
        rows = np.stack(self._job.all_gather(np.array([seconds, self._clock() - self._begin])))
        before, self._spent = self._spent, float(rows[:, 1].max())
        self._longest = max(self._longest, self._spent - before)
        self.left = _LIMIT - self._spent - self._longest
        return float(np.median(rows[:, 0]))


def _way_seconds(cross: Communicator, count: int, clock: Callable[[], float]) -> float:
    """Half the time in which so many messages go to a neighbour and as many come back."""
    odd, partner = cross.rank % 2, cross.rank ^ 1
    begin = end = 0.0
    for leg in range(3):  # there, back, there: each of the two sees one way and the way back
        begin = clock() if leg == odd else begin
        way = [(partner, np.zeros(8, np.uint8))] if partner < cross.size else []
        messages = [
            cross.begin_messages(way, [], k) if leg % 2 == odd else cross.begin_messages([], way, k)
            for k in range(count)
        ]
        for done in messages:
            cross.track(done)()
        end = clock() if leg == odd + 1 else end
    return (end - begin) / 2


def _ring_seconds(cross: Communicator, nbytes: int, clock: Callable[[], float]) -> float:
    """How long it takes when each node sends a message to the next one; the mean of two."""
    there, back = (cross.rank + 1) % cross.size, (cross.rank - 1) % cross.size
    sent, received = np.zeros(nbytes, np.uint8), np.zeros(nbytes, np.uint8)
    begin = clock()
    for _ in range(2):
        cross.track(cross.begin_messages([(there, sent)], [(back, received)]))()
    return (clock() - begin) / 2
