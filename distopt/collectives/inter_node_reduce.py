"""InterNodeReduce: sums over replicas that share no memory, with several blocks on their way at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from distopt.collectives.exchange import TAGS, Exchange
from distopt.collectives.link import AHEAD, TYPICAL, Link, cheapest_rule
from distopt.collectives.node_rounds import node_rounds
from distopt.collectives.tree import live_rows, local_pairs, reduce_rows
from distopt.comm import Communicator
from distopt.typing import Array

__all__ = ["InterNodeReduce", "subtotal"]


class InterNodeReduce:
    """One replica's part in sums with the replicas that hold other rows of them.

    Args:
        cross: those replicas, one a node.
        members: for each of them the numbers of the replicas whose rows its node holds.
        ufunc: how two values are combined.
        link: what messages cost.
        tags: tell exchanges apart that are on their way at once; more than these must not be.
    """

    def __init__(
        self,
        cross: Communicator,
        members: Sequence[tuple[int, ...]],
        ufunc: np.ufunc = np.add,
        link: Link = TYPICAL,
        tags: range = range(TAGS),
    ) -> None:
        self._cross, self._members, self._ufunc, self._link = cross, tuple(members), ufunc, link
        size, self._mine = sum(map(len, members)), members[cross.rank]
        self._pairs = local_pairs(size, self._mine)
        #: The replicas at which the node's own sums stop.
        self._live = live_rows(size, self._mine)
        self._tags, self._begun = tags, 0

    def totals(self, blocks: Iterable[Sequence[Array]]) -> Iterator[Array]:
        """The sums of blocks, in order; others travel while one is used.

        Args:
            blocks: each a row for each of the node's replicas, 1-D, of the same length on all nodes. Rows may
                be written to when the next block is asked for; a row that is alone on its node, when
                its sum is there.
        """
        travelling: deque[Callable[[], Array]] = deque()
        for rows in blocks:
            travelling.append(self._send(rows))
            if len(travelling) > AHEAD:
                yield travelling.popleft()()
        while travelling:
            yield travelling.popleft()()

    def begin(self, rows: Sequence[Array]) -> Exchange:
        """Adds up what can be added here, and begins the exchange of a block; rows as in :meth:`totals`."""
        by_number = dict(zip(self._mine, rows, strict=True))
        own = [
            subtotal(by_number, self._pairs, root, np.empty_like(rows[0]), self._ufunc) for root in self._live
        ]
        if len(rows) > 1:
            own = [row.copy() if any(row is given for given in rows) else row for row in own]
        rule = cheapest_rule(self._members, rows[0].nbytes, self._link)
        plan = node_rounds(self._members, rule, self._cross.rank)
        number = self._tags[self._begun]
        self._begun = (self._begun + 1) % len(self._tags)
        return Exchange(self._cross, plan, own, self._ufunc, number)

    def _send(self, rows: Sequence[Array]) -> Callable[[], Array]:
        """Begins an exchange; what is returned waits for the sum."""
        exchange = self.begin(rows)
        wait = self._cross.track(exchange.advance)

        def arrive() -> Array:
            wait()
            return exchange.total

        return arrive


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
