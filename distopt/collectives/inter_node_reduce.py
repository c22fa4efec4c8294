"""InterNodeReduce: sums over replicas that share no memory, with several blocks on their way at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import perf_counter_ns
from typing import NamedTuple

import numpy as np

from distopt.collectives.exchange import TAGS, Exchange, MessageTrace
from distopt.collectives.link import AHEAD, TYPICAL, TYPICAL_BYTES, Link, cheapest_rule
from distopt.collectives.node_rounds import NodeRounds, node_rounds
from distopt.collectives.tree import live_rows, local_pairs, reduce_rows
from distopt.comm import Communicator
from distopt.typing import Array

__all__ = ["InterNodeReduce", "subtotal"]

#: Bytes of an element at most, of blocks that are sent ahead.
_LARGEST_BYTES = 8


class _Travelling(NamedTuple):
    """A sum that has been begun: its exchange, and what waits for it."""

    exchange: Exchange
    wait: Callable[[], None]

    def total(self) -> Array:
        """The total, when it is there."""
        begin = perf_counter_ns()
        self.wait()
        if self.exchange.trace is not None:
            self.exchange.trace.spans.add_since("wire", begin)
        return self.exchange.total


class InterNodeReduce:
    """One replica's part in sums with the replicas that hold other rows of them.

    Args:
        cross: those replicas, one a node.
        members: for each of them the numbers of the replicas whose rows its node holds.
        ufunc: how two values are combined.
        link: what messages cost.
        tags: tell exchanges apart that are on their way at once; more than these must not be.
        longest: the elements of a row at most, for a block that is sent ahead of a header.
        trace: writes down when messages travel; None for not at all.
    """

    def __init__(
        self,
        cross: Communicator,
        members: Sequence[tuple[int, ...]],
        ufunc: np.ufunc = np.add,
        link: Link = TYPICAL,
        tags: range = range(TAGS),
        longest: int = 0,
        trace: MessageTrace | None = None,
    ) -> None:
        self._cross, self._members, self._ufunc, self._link = cross, tuple(members), ufunc, link
        size, self._mine = sum(map(len, members)), members[cross.rank]
        self._pairs = local_pairs(size, self._mine)
        #: The replicas at which the node's own sums stop.
        self._live = live_rows(size, self._mine)
        self._tags, self._begun, self._longest, self._trace = tags, 0, longest, trace
        self._ahead: _Travelling | None = None
        self._rooms: list[list[Array]] | None = None

    def send_ahead(self, rows: Sequence[Array]) -> None:
        """Begins the sum of the first block before it is known that all nodes are in the same call.

        Until that is known nothing but these blocks travels, and then either all nodes go on with
        :meth:`totals`, or all of them call :meth:`recall`.
        """
        self._ahead = self._send_ahead(self.subtotals(rows))

    def recall(self) -> None:
        """Ends the sum without a result, where some nodes have begun it and others have not.

        Those who have not send empty messages, and others do so from now on: so each message that is waited
        for comes, and none is left for a later call.
        """
        ahead = self._ahead or self._send_ahead([np.empty(0, np.uint8)] * len(self._live))
        self._ahead = None
        ahead.exchange.give_up()
        ahead.wait()

    def totals(self, blocks: Iterable[Sequence[Array]], ahead: bool = False) -> Iterator[Array]:
        """The sums of blocks, in order; others travel while one is used.

        Args:
            blocks: each a row for each of the node's replicas, 1-D, of the same length on all nodes. Rows may
                be written to when the next block is asked for; a row that is alone on its node, when
                its sum is there.
            ahead: whether another block has been sent ahead, whose sum comes first.
        """
        travelling: deque[_Travelling] = deque()
        if ahead and self._ahead is not None:
            travelling.append(self._ahead)
        self._ahead, free = None, True
        for rows in blocks:
            travelling.append(self._travelling(self.begin(rows, free=free)))
            if len(travelling) > AHEAD:
                yield travelling.popleft().total()
                free = False
        while travelling:
            yield travelling.popleft().total()

    def subtotals(self, rows: Sequence[Array]) -> list[Array]:
        """What the tree adds up of a node's rows without other nodes, in memory that stays as it is."""
        by_number = dict(zip(self._mine, rows, strict=True))
        own = [
            subtotal(by_number, self._pairs, root, np.empty_like(rows[0]), self._ufunc) for root in self._live
        ]
        if len(rows) > 1:
            own = [row.copy() if any(row is given for given in rows) else row for row in own]
        return own

    def begin(
        self, rows: Sequence[Array], empty: Callable[..., Array] = np.empty, free: bool = True
    ) -> Exchange:
        """Begins the exchange of a block, which goes on when it is looked at; rows as in :meth:`totals`.

        Its memory comes from ``empty``; ``free`` as in :class:`Exchange`.
        """
        own = self.subtotals(rows)
        rule = cheapest_rule(self._members, rows[0].nbytes, self._link)
        plan = node_rounds(self._members, rule, self._cross.rank)
        return Exchange(self._cross, plan, own, self._ufunc, self._number(), None, empty, self._trace, free)

    def _send_ahead(self, own: Sequence[Array]) -> _Travelling:
        """The same by the rule of the longest blocks, whatever this one is: so all nodes have one plan."""
        rule = cheapest_rule(self._members, TYPICAL_BYTES * self._longest, self._link)
        plan = node_rounds(self._members, rule, self._cross.rank)
        if self._rooms is None:
            self._rooms = _rooms(plan, self._longest)
        exchange = Exchange(
            self._cross, plan, own, self._ufunc, self._number(), self._rooms, trace=self._trace
        )
        return self._travelling(exchange)

    def _travelling(self, exchange: Exchange) -> _Travelling:
        return _Travelling(exchange, self._cross.track(exchange.advance))

    def _number(self) -> int:
        """The number of the next exchange, the same on all nodes."""
        number = self._tags[self._begun]
        self._begun = (self._begun + 1) % len(self._tags)
        return number


def _rooms(plan: NodeRounds, longest: int) -> list[list[Array]]:
    """For each round of a plan, room for each message that comes, if rows are so long at most."""
    part = -(-longest // plan.parts) * _LARGEST_BYTES
    return [
        [np.zeros(part * sum(s.stop - s.start for s in message.spans), np.uint8) for message in now.received]
        for now in plan.rounds
    ]


def subtotal(
    rows: dict[int, Array], pairs: Sequence[tuple[int, int]], root: int, out: Array, ufunc: np.ufunc = np.add
) -> Array:
    """What ``pairs`` bring together in row ``root``: ``out``, or that row itself if it is alone.

    Args:
        rows: by the numbers that ``pairs`` use.
        pairs: combinations ``row[i] += row[j]``, in order.
        root: the row that is asked for.
        out: of the rows' length and dtype.
        ufunc: how two values are combined.
    """
    below = {root}
    for i, j in reversed(pairs):
        if i in below:
            below.add(j)
    if len(below) == 1:
        return rows[root]
    numbers = sorted(below)
    place = {number: k for k, number in enumerate(numbers)}
    order = [(place[i], place[j]) for i, j in pairs if i in below]
    reduce_rows([rows[number] for number in numbers], out, ufunc, order)
    return out
