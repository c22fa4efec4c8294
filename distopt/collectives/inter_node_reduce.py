"""InterNodeReduce: sums over replicas that share no memory, with several blocks on their way at once.

Each block is split: everyone sends what others are to sum (all-to-all), sums its own part in tree
order, and gives it to all (all-gather). While one block is summed or used, the next one travels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from distopt.collectives.tree import live_rows, local_pairs, reduce_rows, tree_pairs
from distopt.comm import Communicator
from distopt.core.split import shares
from distopt.typing import Array

__all__ = ["InterNodeReduce", "subtotal"]

_T = TypeVar("_T")


class InterNodeReduce:
    """One replica's part in sums with the replicas that hold other rows of them.

    Args:
        cross: those replicas, one a node.
        members: for each of them the numbers of the replicas whose rows its node holds.
        ufunc: how two values are combined.
    """

    def __init__(
        self, cross: Communicator, members: Sequence[tuple[int, ...]], ufunc: np.ufunc = np.add
    ) -> None:
        self._cross, self._ufunc = cross, ufunc
        size = sum(map(len, members))
        self._mine = members[cross.rank]
        self._mine_pairs = local_pairs(size, self._mine)
        #: For each node the replicas at which its own sums stop.
        self._live = [live_rows(size, numbers) for numbers in members]
        self._height = max(map(len, self._live))
        spent = {pair for numbers in members for pair in local_pairs(size, numbers)}
        self._pairs = [pair for pair in tree_pairs(size) if pair not in spent]

    def totals(self, blocks: Iterable[Sequence[Array]]) -> Iterator[Array]:
        """The sums of blocks, in order; two blocks travel while a third is used.

        Args:
            blocks: each a row for each of the node's replicas, 1-D, of the same length on all nodes. Rows may
                be written to when the next block is asked for; a row that is alone on its node, when
                its sum is there.
        """
        sent = (self._send(rows) for rows in blocks)
        summed = (self._sum(*block) for block in _one_ahead(sent))
        return (arrive() for arrive in _one_ahead(summed))

    def _send(self, rows: Sequence[Array]) -> tuple[int, Callable[[], Array]]:
        """Adds up what can be added here, and sends each replica its part; returns the block's length too."""
        length = rows[0].size
        by_number = dict(zip(self._mine, rows, strict=True))
        own = [
            subtotal(by_number, self._mine_pairs, root, np.empty_like(rows[0]), self._ufunc)
            for root in self._live[self._cross.rank]
        ]
        own += [np.zeros_like(rows[0])] * (self._height - len(own))
        lengths = shares(length, self._cross.size)
        flat = own[0]
        if self._height > 1:
            cuts = np.cumsum(lengths)[:-1]
            flat = np.concatenate([part.reshape(-1) for part in np.split(np.stack(own), cuts, axis=1)])
        return length, self._cross.begin_all_to_all(flat, [n * self._height for n in lengths])

    def _sum(self, length: int, arrive: Callable[[], Array]) -> Callable[[], Array]:
        """Adds up the own part of a block, and sends it to all."""
        lengths = shares(length, self._cross.size)
        received = arrive().reshape(self._cross.size, self._height, lengths[self._cross.rank])
        rows = {
            number: row
            for sent, live in zip(received, self._live, strict=True)
            for number, row in zip(live, sent, strict=False)
        }
        total = subtotal(rows, self._pairs, 0, np.empty_like(received[0, 0]), self._ufunc)
        return self._cross.begin_all_gather(total, lengths)


def _one_ahead(items: Iterator[_T]) -> Iterator[_T]:
    """The same items, each given out when the one after it has been made."""
    for item in items:
        before = item
        break
    else:
        return
    for item in items:
        yield before
        before = item
    yield before


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
