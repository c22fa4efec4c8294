"""NodeRounds: what one node sends, receives and adds in each round of an exchange."""

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

#: Kinds of memory that hold rows: the node's own, sums that it has made, what it has received.
OWN, SUMS, RECEIVED = range(3)
#: The memory of sums in which the total is made.
_TOTAL = (SUMS, 0)
_Memory = tuple[int, int]
_Key = TypeVar("_Key")


class Span(NamedTuple):
    """Parts ``[start, stop)`` of a row in some memory: its kind, and its number among those of its kind."""

    memory: _Memory
    start: int
    stop: int


class Message(NamedTuple):
    """What goes to a node, or comes from it: spans, one after the other."""

    peer: int
    spans: tuple[Span, ...]


class Addition(NamedTuple):
    """``out = left + right``; out may be one of them."""

    out: Span
    left: Span
    right: Span


class Round(NamedTuple):
    """Messages that travel at once, and what is added when they are there."""

    sent: tuple[Message, ...]
    received: tuple[Message, ...]
    sums: tuple[Addition, ...]


@dataclass(frozen=True, eq=False)
class NodeRounds:
    """One node's part in an exchange.

    Attributes:
        parts: how many parts of nearly equal length a block has.
        rounds: first those that bring sums together, then those that bring the totals back.
        sums: how many rows of sums the node holds at a time; the first is the total at the end.
        received: how many spans it receives before the totals.
    """

    parts: int
    rounds: tuple[Round, ...]
    sums: int
    received: int


@lru_cache(maxsize=256)
def node_rounds(members: Members, rule: str, node: int) -> NodeRounds:
    """A node's part in the exchange that a rule makes; see :mod:`distopt.collectives.transfers`."""
    own = live_rows(sum(map(len, members)), members[node])
    return _Compiler(transfers(members, rule), node, own).compiled()


class Load(NamedTuple):
    """What an exchange takes.

    Attributes:
        rounds: how many messages follow one another.
        messages: how many the busiest node sends.
        blocks: what the busiest node sends or receives, whichever is more, in lengths of a block.
        total: what all nodes send, in lengths of a block.
    """

    rounds: int
    messages: int
    blocks: float
    total: float


@lru_cache(maxsize=256)
def load(members: Members, rule: str) -> Load:
    """What the exchange that a rule makes takes; see :mod:`distopt.collectives.transfers`."""
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
    """Follows one node's rows.

    Args:
        everything: the transfers of all nodes.
        node: the node.
        own: the rows that it has at first, in order.
    """

    def __init__(self, everything: Transfers, node: int, own: Sequence[int]) -> None:
        self._all, self._node = everything, node
        parts = range(everything.parts)
        self._at: dict[tuple[int, int], _Memory] = {
            (row, part): (OWN, k) for k, row in enumerate(own) for part in parts
        }
        #: For each part the memories of sums that are in use.
        self._used: list[set[int]] = [set() for _ in parts]
        self._sums, self._received = 1, 0  # the totals come into the first

    def compiled(self) -> NodeRounds:
        rounds = range(self._all.rounds)
        there = [self._round(number) for number in rounds]
        back = [self._back(number) for number in rounds]
        return NodeRounds(self._all.parts, (*there, *back), self._sums, self._received)

    def _round(self, number: int) -> Round:
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
        """For each peer in a column the rows and parts, in the order in which they travel."""
        found: dict[int, list[tuple[int, int]]] = {}
        for peer, row, start, stop in sorted(rows[:, [column, 3, 4, 5]].tolist()):
            found.setdefault(peer, []).extend((row, part) for part in range(start, stop))
        return list(found.items())

    def _leave(self, row: int, part: int) -> _Memory:
        memory = self._at.pop((row, part))
        self._free(memory, part)
        return memory

    def _free(self, memory: _Memory, part: int) -> None:
        if memory[0] == SUMS:
            self._used[part].discard(memory[1])

    def _arrive(self, pairs: list[tuple[int, int]]) -> Iterator[Span]:
        for row, start, stop in _runs(pairs):
            memory = (RECEIVED, self._received)
            self._received += 1
            self._at.update({(row, part): memory for part in range(start, stop)})
            yield Span(memory, start, stop)

    def _add(self, i: int, j: int, parts: list[int]) -> Iterator[Addition]:
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
    """Things that lie in parts, with the parts ``[start, stop)`` of those that follow one another."""
    for key, pairs in groupby(enumerate(places), lambda item: (item[1][0], item[1][1] - item[0])):
        parts = [part for _, (_, part) in pairs]
        yield key[0], parts[0], parts[-1] + 1


def _spans(places: Iterable[tuple[_Memory, int]]) -> Iterator[Span]:
    return (Span(memory, start, stop) for memory, start, stop in _runs(places))
