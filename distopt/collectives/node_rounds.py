"""NodeRounds: what one node sends, receives and adds in each round of an exchange.

A row is the values of a block from one replica, or a partial sum of rows. A block is divided into parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple, TypeVar

import numpy as np

from distopt.collectives.transfers import Members, Transfers, transfers
from distopt.collectives.tree import live_rows
from distopt.typing import Array

__all__ = ["Addition", "Load", "Message", "NodeRounds", "Round", "Span", "load", "node_rounds"]

#: Kinds of memory: the node's own rows, sums that it has computed, messages that it has received.
OWN, SUMS, RECEIVED = range(3)
#: The memory that contains the total at the end.
_TOTAL = (SUMS, 0)
#: A kind of memory, and the index among memories of this kind.
_Memory = tuple[int, int]
_Key = TypeVar("_Key")


class Span(NamedTuple):
    """The parts ``[start, stop)`` of a row, and the memory that contains the row."""

    memory: _Memory
    start: int
    stop: int


class Message(NamedTuple):
    """A message to or from the node ``peer``: its spans, one after the other."""

    peer: int
    spans: tuple[Span, ...]


class Addition(NamedTuple):
    """``out = left + right``; ``out`` may be one of the operands."""

    out: Span
    left: Span
    right: Span


class Round(NamedTuple):
    """Messages that travel at the same time, and the additions after their arrival."""

    sent: tuple[Message, ...]
    received: tuple[Message, ...]
    sums: tuple[Addition, ...]


@dataclass(frozen=True, eq=False)
class NodeRounds:
    """One node's part in an exchange.

    Attributes:
        parts: the number of parts of a block, of nearly equal length.
        rounds: first the rounds that compute the totals of parts (a reduce-scatter), then those that send the
            totals back (an all-gather).
        sums: how many rows of sums the node needs; the first contains the total at the end.
        received: how many spans the node receives in the first half of the rounds.
    """

    parts: int
    rounds: tuple[Round, ...]
    sums: int
    received: int


@lru_cache(maxsize=256)
def node_rounds(members: Members, rule: str, node: int) -> NodeRounds:
    """A node's part in the exchange by a rule; arguments as in :mod:`distopt.collectives.transfers`."""
    own = live_rows(sum(map(len, members)), members[node])
    return _Compiler(transfers(members, rule), node, own).compiled()


class Load(NamedTuple):
    """The cost of an exchange in messages and data.

    Attributes:
        rounds: the number of rounds, in which messages follow one another.
        messages: the number of messages that the busiest node sends.
        blocks: the data that the busiest node sends or receives, whichever is more, in lengths of a block.
        total: the data that all nodes send together, in lengths of a block.
    """

    rounds: int
    messages: int
    blocks: float
    total: float


@lru_cache(maxsize=256)
def load(members: Members, rule: str) -> Load:
    """The cost of an exchange by a rule; arguments as in :mod:`distopt.collectives.transfers`."""
    found, nodes = transfers(members, rule), len(members)
    messages, blocks, total = np.zeros(nodes, np.int64), 0.0, 0
    for rows in (found.sent, found.back):
        lengths = rows[:, -1] - rows[:, -2]
        total += int(lengths.sum())
        sent, received = (np.bincount(rows[:, column], lengths, nodes).max() for column in (1, 2))
        blocks += max(int(sent), int(received)) / found.parts
        ways = np.sort((rows[:, 0] * nodes + rows[:, 1]) * nodes + rows[:, 2])
        ways = ways[np.diff(ways, prepend=-1) > 0]
        messages += np.bincount(ways // nodes % nodes, minlength=nodes)
    return Load(2 * found.rounds, int(messages.max()), blocks, total / found.parts)


class _Compiler:
    """Translates the transfers of all nodes into the rounds of one node, and assigns memory to its rows.

    Args:
        everything: the transfers of all nodes.
        node: the number of the node.
        own: the rows that the node has at the start, in order.
    """

    def __init__(self, everything: Transfers, node: int, own: Sequence[int]) -> None:
        self._all, self._node = everything, node
        parts = range(everything.parts)
        #: The memory of each (row, part) that the node has.
        self._at: dict[tuple[int, int], _Memory] = {
            (row, part): (OWN, k) for k, row in enumerate(own) for part in parts
        }
        #: For each part, the indices of the sums that are in use.
        self._used: list[set[int]] = [set() for _ in parts]
        self._sums, self._received = 1, 0  # at least the sum that receives the totals

    def compiled(self) -> NodeRounds:
        rounds = range(self._all.rounds)
        there = [self._round(number) for number in rounds]
        back = [self._back(number) for number in rounds]
        return NodeRounds(self._all.parts, (*there, *back), self._sums, self._received)

    def _round(self, number: int) -> Round:
        """A round of the first half, in which partial sums are sent and added."""
        now = self._all.sent[self._all.sent[:, 0] == number]
        sent = [
            Message(peer, tuple(_spans((self._leave(row, part), part) for row, part in pairs)))
            for peer, pairs in self._with_peers(now[now[:, 1] == self._node], 2)
        ]
        received = [
            Message(peer, tuple(self._arrive(pairs)))
            for peer, pairs in self._with_peers(now[now[:, 2] == self._node], 1)
        ]
        added = self._all.added
        own = added[(added[:, 0] == number) & (added[:, 1] == self._node)][:, 2:].tolist()
        sums = [
            made
            for (i, j), rows in groupby(own, lambda row: (row[0], row[1]))
            for made in self._add(i, j, [part for *_, start, stop in rows for part in range(start, stop)])
        ]
        return Round(tuple(sent), tuple(received), tuple(sums))

    def _back(self, number: int) -> Round:
        """A round of the second half, in which totals are sent back."""
        now = self._all.back[self._all.back[:, 0] == number]
        sent, received = (
            tuple(
                Message(peer, tuple(_spans((_TOTAL, part) for _, part in pairs)))
                for peer, pairs in self._with_peers(
                    np.insert(now[now[:, own] == self._node], 3, 0, axis=1), 3 - own
                )
            )
            for own in (1, 2)
        )
        return Round(sent, received, ())

    @staticmethod
    def _with_peers(rows: Array, column: int) -> list[tuple[int, list[tuple[int, int]]]]:
        """For each peer in ``column``, the ``(row, part)`` pairs in the order in which they travel."""
        found: dict[int, list[tuple[int, int]]] = {}
        for peer, row, start, stop in sorted(rows[:, [column, 3, 4, 5]].tolist()):
            found.setdefault(peer, []).extend((row, part) for part in range(start, stop))
        return list(found.items())

    def _leave(self, row: int, part: int) -> _Memory:
        """The memory of a part that is sent away, which is free after this."""
        memory = self._at.pop((row, part))
        self._free(memory, part)
        return memory

    def _free(self, memory: _Memory, part: int) -> None:
        if memory[0] == SUMS:
            self._used[part].discard(memory[1])

    def _arrive(self, pairs: list[tuple[int, int]]) -> Iterator[Span]:
        """Memory for the parts of a message that arrives."""
        for row, start, stop in _runs(pairs):
            memory = (RECEIVED, self._received)
            self._received += 1
            self._at.update({(row, part): memory for part in range(start, stop)})
            yield Span(memory, start, stop)

    def _add(self, i: int, j: int, parts: list[int]) -> Iterator[Addition]:
        """Adds parts of row j to row i; the result takes the first free memory of sums."""
        placed = []
        for part in parts:
            left, right = self._at[i, part], self._at.pop((j, part))
            self._free(left, part)
            self._free(right, part)
            used = self._used[part]
            free = next(k for k in range(len(used) + 1) if k not in used)
            used.add(free)
            self._sums = max(self._sums, free + 1)
            self._at[i, part] = (SUMS, free)
            placed.append((((SUMS, free), left, right), part))
        for memories, start, stop in _runs(placed):
            yield Addition(*(Span(memory, start, stop) for memory in memories))


def _runs(places: Iterable[tuple[_Key, int]]) -> Iterator[tuple[_Key, int, int]]:
    """Joins ``(key, part)`` pairs with equal keys and consecutive parts to ``(key, start, stop)``."""
    for key, pairs in groupby(enumerate(places), lambda item: (item[1][0], item[1][1] - item[0])):
        parts = [part for _, (_, part) in pairs]
        yield key[0], parts[0], parts[-1] + 1


def _spans(places: Iterable[tuple[_Memory, int]]) -> Iterator[Span]:
    return (Span(memory, start, stop) for memory, start, stop in _runs(places))
