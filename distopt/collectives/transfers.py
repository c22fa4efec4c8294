"""Transfers: which node sends which partial sum to which node, in which round.

A block is cut into parts. For each part the tree's sums are made somewhere: where a sum's operands lie on
different nodes, one of them has to travel. A rule says where each sum is made; the order in which values
are added is the tree's under every rule, so all rules give the same bits.

The rules:

- ``direct``: everything goes to the part's owner in one round. Fewest rounds, one message to each node.
- ``halving``: recursive halving, neighbours first (Thakur, Rabenseifner and Gropp, "Optimization of
  collective communication operations in MPICH", IJHPCA 19(1), 2005, 4.1): in round k a node meets the one at
  distance 2**k and keeps half of its parts. The largest power of two of nodes first, what is left over
  likewise, and then joined in the tree's order. A node sends about 2 log2 N messages.
- ``fewest``: each sum is made where the fewest partial sums travel (Sankoff, "Minimal mutation trees of
  sequences", SIAM J. Appl. Math. 28(1), 1975).

Totals go back on the same ways, the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from distopt.collectives.tree import live_rows, local_pairs, tree_pairs
from distopt.typing import Array

__all__ = ["RULES", "Members", "Transfers", "transfers"]

#: For each node the numbers of its replicas.
Members = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Transfers:
    """Who sends what to whom, for all nodes.

    Attributes:
        parts: how many parts of nearly equal length a block has.
        owner: ``[parts]`` int64, the node at which each part's total is made.
        rounds: how many rounds bring all sums together; as many bring the totals back.
        sent: ``[n, 5]`` int64, rows of (round, source, target, row, part): a partial sum travels. It is
            named by the least of its replicas.
        added: ``[n, 5]`` int64, rows of (round, node, i, j, part): after the messages of that round the node
            adds row j to row i; in order.
        back: ``[n, 4]`` int64, rows of (round, source, target, part): a total travels.
    """

    parts: int
    owner: Array
    rounds: int
    sent: Array
    added: Array
    back: Array


@lru_cache(maxsize=4)
def transfers(members: Members, rule: str) -> Transfers:
    """The transfers between nodes.

    Args:
        members: for each node the numbers of its replicas.
        rule: one of :data:`RULES`.
    """
    made = _Builder(members)
    RULES[rule](made)
    return made.finished()


class _Builder:
    """Follows the rows of all nodes through a block's parts, all parts at a time.

    Args:
        members: for each node the numbers of its replicas.

    Attributes:
        nodes: how many nodes there are.
        home: the node of each row that is left when nodes have made the sums that they can make alone.
        pairs: what is to be added then, in order.
        part: the numbers of the parts.
        place: for each row the node of each part.
        time: for each row after how many rounds each part is there.
    """

    def __init__(self, members: Members) -> None:
        size, self.nodes = sum(map(len, members)), len(members)
        spent = {pair for numbers in members for pair in local_pairs(size, numbers)}
        self.pairs = [pair for pair in tree_pairs(size) if pair not in spent]
        self.home = {row: n for n, numbers in enumerate(members) for row in live_rows(size, numbers)}
        self._sent, self._added = [_none(5)], [_none(5)]

    def cut(self, parts: int) -> None:
        """Begins with so many parts."""
        self.part = np.arange(parts)
        self.place = {row: np.full(parts, n) for row, n in self.home.items()}
        self.time = {row: np.zeros(parts, np.int64) for row in self.home}

    def move(self, row: int, to: Array, earliest: int = 0) -> None:
        """Sends a row's parts to nodes, not before a round."""
        gone = np.flatnonzero(self.place[row] != to)
        when = np.maximum(self.time[row][gone], earliest)
        columns = (when, self.place[row][gone], to[gone], np.full(len(gone), row), self.part[gone])
        self._sent.append(np.column_stack(columns))
        self.time[row][gone] = when + 1
        self.place[row] = to

    def add(self, i: int, j: int) -> None:
        """Adds row j to row i, which lies at the same places."""
        place, _ = self.place[i], self.place.pop(j)
        self.time[i] = time = np.maximum(self.time[i], self.time.pop(j))
        rows = np.broadcast_to([[i], [j]], (2, len(place)))
        self._added.append(np.column_stack([time - 1, place, *rows, self.part]))

    def finished(self) -> Transfers:
        """All of it; row 0 is the total now."""
        sent, added, rounds = np.concatenate(self._sent), np.concatenate(self._added), int(self.time[0].max())
        # A node gets the total of a part from where it has sent what it sent last of it.
        last = sent[np.lexsort((sent[:, 0], sent[:, 1], sent[:, 4]))]
        keep = np.ones(len(last), bool)
        keep[:-1] = (last[1:, 1] != last[:-1, 1]) | (last[1:, 4] != last[:-1, 4])
        when, source, target, _, part = last[keep].T
        back = np.column_stack([rounds - 1 - when, target, source, part])
        return Transfers(len(self.part), self.place[0], rounds, sent, added, back)


def _none(columns: int) -> Array:
    return np.empty((0, columns), np.int64)


def _direct(made: _Builder) -> None:
    made.cut(made.nodes)
    for row in made.home:
        made.move(row, made.part)
    for i, j in made.pairs:
        made.add(i, j)


def _halving(made: _Builder) -> None:
    bits = made.nodes.bit_length() - 1
    made.cut(1 << bits)
    # Bits are reversed: so the half that a node keeps is one piece of memory.
    turn = sum((made.part >> bit & 1) << bits - 1 - bit for bit in range(bits)) + 0 * made.part
    pairs = made.pairs
    for level in range(1, (made.nodes - 1).bit_length() + 1):
        half = 1 << level - 1
        for base in range(0, made.nodes - half, 2 * half):
            rows = [row for row in made.place if made.home[row] >> level == base >> level]
            if base + 2 * half <= made.nodes:
                for row in rows:
                    made.move(row, base + turn % (2 * half), level - 1)
            else:
                _join(made, [row for row in rows if made.home[row] >= base + half], base, level - 1, turn)
        pairs = _add_within_groups(made, pairs, level)


def _join(made: _Builder, rows: Sequence[int], base: int, bits: int, turn: Array) -> None:
    """Sends what is left over to the ``2**bits`` nodes before it.

    A node sends to four of them at most, and these on, with what they send each other anyway: else the one
    node after a power of two would send as many messages as there are nodes.
    """
    nodes = made.nodes - base - (1 << bits)
    earliest = max(int(made.time[row].max()) for row in rows)
    for k in range(min(nodes.bit_length() + 1, bits), bits + 1):
        for row in rows:
            made.move(row, base + turn % (1 << k), earliest)
        earliest = k


def _add_within_groups(made: _Builder, pairs: Sequence[tuple[int, int]], level: int) -> list[tuple[int, int]]:
    """Makes all sums that groups of ``2**level`` nodes can make; returns the pairs that are left."""
    blocked: set[int] = set()
    left = []
    for i, j in pairs:
        if i not in blocked and j not in blocked and made.home[i] >> level == made.home[j] >> level:
            made.add(i, j)
        else:
            blocked |= {i, j}
            left.append((i, j))
    return left


def _fewest(made: _Builder) -> None:
    made.cut(made.nodes)
    # For each sum, and each node: how many partial sums travel if it is made there.
    cost = {row: np.where(made.part == n, 0, 4 * len(made.home)) for row, n in made.home.items()}
    inside = {row: made.part == n for row, n in made.home.items()}
    sums = []
    for i, j in made.pairs:
        operands = [(cost[row], inside[row]) for row in (i, j)]
        cost[i] = sum((np.minimum(c, c.min() + 1) for c, _ in operands), np.zeros_like(made.part))
        inside[i] = inside[i] | inside[j]
        sums.append((cost[i], inside[i], operands))
    # From the total down to its operands: where each of them is made.
    at = {id(cost[0]): _spread(made, cost[0], inside[0])}
    for total, _, operands in reversed(sums):
        place = at[id(total)]
        for c, within in operands:
            stays = (c[place] <= c.min() + 1) & within[place]
            at[id(c)] = np.where(stays, place, _spread(made, c, within))
    for (i, j), (total, _, _) in zip(made.pairs, sums, strict=True):
        made.move(i, at[id(total)])
        made.move(j, at[id(total)])
        made.add(i, j)


def _spread(made: _Builder, cost: Array, inside: Array) -> Array:
    """For each part one of the cheapest nodes inside, by turns."""
    cheapest = np.flatnonzero(inside & (cost == cost[inside].min()))
    nodes: Array = cheapest[made.part % len(cheapest)]
    return nodes


#: By name: how transfers are made.
RULES: dict[str, Callable[[_Builder], None]] = {"direct": _direct, "halving": _halving, "fewest": _fewest}
