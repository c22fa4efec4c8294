"""Transfers: which node sends which partial sum to which node in which round, to all-reduce a block.

A block is divided into parts. For each part, the additions of the tree are made on some node: if the operands
of an addition are on different nodes, one of them must be sent. A rule chooses the node of each addition. The
order of additions is that of the tree under every rule, so all rules compute the same bits.

The rules:

- ``direct``: all nodes send their values of a part to the part's owner in one round. This takes the fewest
  rounds, with one message to each node.
- ``halving``: recursive halving, neighbours first (Thakur, Rabenseifner and Gropp, "Optimization of
  collective communication operations in MPICH", IJHPCA 19(1), 2005, 4.1). In round k, a node exchanges
  messages with the node at distance 2**k, and keeps half of its parts. If the number of nodes N is no power
  of two, the largest power of two and the remaining nodes do this separately, and are then joined in tree
  order. A node sends about 2 log2 N messages.
- ``fewest``: each addition is made where the fewest partial sums have to be sent (Sankoff, "Minimal mutation
  trees of sequences", SIAM J. Appl. Math. 28(1), 1975).

The totals return on the same paths in reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from distopt.collectives.tree import local_pairs, tree_pairs
from distopt.typing import Array

__all__ = ["RULES", "Members", "Transfers", "transfers"]

#: For each node, the numbers of its replicas.
Members = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Transfers:
    """The transfers and additions of all nodes.

    Attributes:
        parts: the number of parts of a block, of nearly equal length.
        owner: ``[parts]`` int64, the node that computes the total of each part.
        rounds: the number of rounds that compute the totals; as many rounds return them.
        sent: ``[n, 6]`` int64, rows of (round, source, target, row, start, stop): the source sends parts
            ``[start, stop)`` of a partial sum. ``row`` is the lowest number of the replicas in this sum.
        added: ``[n, 6]`` int64, rows of (round, node, i, j, start, stop): after the messages of the round,
            the node adds row j to row i; in order.
        back: ``[n, 5]`` int64, rows of (round, source, target, start, stop): the source sends parts of the
            total.
    """

    parts: int
    owner: Array
    rounds: int
    sent: Array
    added: Array
    back: Array


@lru_cache(maxsize=4)
def transfers(members: Members, rule: str) -> Transfers:
    """The transfers between nodes by a rule.

    Args:
        members: for each node, the numbers of its replicas.
        rule: one of :data:`RULES`.
    """
    made = _Builder(members)
    RULES[rule](made)
    return made.finished()


class _Builder:
    """Records the transfers and additions that a rule makes, and tracks on which node each row is.

    A piece is a range of parts that have been on the same nodes so far. Working on pieces instead of parts,
    recursive halving on N nodes makes N log N transfers instead of N^2.

    Args:
        members: for each node, the numbers of its replicas.

    Attributes:
        nodes: the number of nodes.
        home: for each row that remains after the additions within nodes, its node.
        pairs: the remaining additions, in order.
        parts: the number of parts of a block; 1 until a rule sets it.
        place: for each row, the node of each of its pieces, which have equal lengths.
        time: for each row, the number of rounds after which each piece is on this node.
    """

    def __init__(self, members: Members) -> None:
        size, self.nodes = sum(map(len, members)), len(members)
        spent = {pair for numbers in members for pair in local_pairs(size, numbers)}
        self.pairs = [pair for pair in tree_pairs(size) if pair not in spent]
        gone = {j for _, j in spent}
        self.home = {row: n for n, numbers in enumerate(members) for row in numbers if row not in gone}
        self.parts = 1
        self.place = {row: np.full(1, n) for row, n in self.home.items()}
        self.time = {row: np.zeros(1, np.int64) for row in self.home}
        self._sent, self._added = [_none(6)], [_none(6)]

    def move(self, rows: Sequence[int], to: Array, earliest: int = 0) -> None:
        """Sends pieces of rows to nodes.

        Args:
            rows: rows with the same number of pieces; they are divided into as many pieces as ``to`` has.
            to: ``[pieces]`` or ``[rows, pieces]``, the target nodes.
            earliest: the first round that may be used.
        """
        pieces, shape = to.shape[-1], (len(rows), to.shape[-1])
        place, time = (np.stack([known[row] for row in rows]) for known in (self.place, self.time))
        place, time = (np.repeat(known, pieces // known.shape[1], axis=1) for known in (place, time))
        to = np.broadcast_to(to, shape)
        which, piece = gone = np.nonzero(place != to)
        when = np.maximum(time[gone], earliest)
        self._sent.append(
            np.column_stack([when, place[gone], to[gone], np.array(rows)[which], *self._span(piece, pieces)])
        )
        time[gone] = when + 1
        self.place.update(zip(rows, to, strict=True))
        self.time.update(zip(rows, time, strict=True))

    def add(self, i: int, j: int) -> None:
        """Adds row j to row i; their pieces are on the same nodes."""
        place, _ = self.place[i], self.place.pop(j)
        self.time[i] = time = np.maximum(self.time[i], self.time.pop(j))
        made = np.empty((len(place), 6), np.int64)
        made[:, 0], made[:, 1], made[:, 2], made[:, 3] = time - 1, place, i, j
        made[:, 4], made[:, 5] = self._span(np.arange(len(place)), len(place))
        self._added.append(made)

    def _span(self, piece: Array, pieces: int) -> tuple[Array, Array]:
        """The parts ``[start, stop)`` of piece number ``piece``, if a row has ``pieces`` of them."""
        length = self.parts // pieces
        return piece * length, (piece + 1) * length

    def finished(self) -> Transfers:
        """The transfers, after all additions: row 0 is the total."""
        sent, added, rounds = np.concatenate(self._sent), np.concatenate(self._added), int(self.time[0].max())
        owner = np.repeat(self.place[0], self.parts // len(self.place[0]))
        return Transfers(self.parts, owner, rounds, sent, added, self._back(sent, rounds))

    def _back(self, sent: Array, rounds: int) -> Array:
        """Returns the totals: a node gets that of a part from the node to which it last sent this part."""
        sent = sent[np.argsort(sent[:, 0], kind="stable")]
        lengths = sent[:, 5] - sent[:, 4]
        begin = sent[:, 1] * self.parts + sent[:, 4] - (np.cumsum(lengths) - lengths)
        last = np.full((self.nodes, self.parts), -1, np.int32)
        cells = np.repeat(begin.astype(np.int32), lengths) + np.arange(lengths.sum(), dtype=np.int32)
        last.reshape(-1)[cells] = np.repeat(np.arange(len(sent), dtype=np.int32), lengths)
        node, start = np.nonzero(np.diff(last, axis=1, prepend=np.int32(-2)))
        stop = np.append(start[1:], 0)
        stop[stop == 0] = self.parts
        number = last[node, start]
        back = np.column_stack([rounds - 1 - sent[number, 0], sent[number, 2], node, start, stop])
        return back[number >= 0]


def _none(columns: int) -> Array:
    return np.empty((0, columns), np.int64)


def _direct(made: _Builder) -> None:
    made.parts = made.nodes
    made.move(list(made.home), np.arange(made.parts))
    for i, j in made.pairs:
        made.add(i, j)


def _halving(made: _Builder) -> None:
    bits = made.nodes.bit_length() - 1
    made.parts = 1 << bits
    pairs = made.pairs
    for level in range(1, (made.nodes - 1).bit_length() + 1):
        half = 1 << level - 1
        rows: dict[int, list[int]] = {}
        for row in made.place:
            rows.setdefault(made.home[row] >> level, []).append(row)
        whole = [(base, row) for base in rows if (base + 1) << level <= made.nodes for row in rows[base]]
        if whole:
            bases = np.array([base << level for base, _ in whole])
            made.move([row for _, row in whole], bases[:, None] + _reversed_bits(level), level - 1)
        left, base = made.nodes % (2 * half), made.nodes >> level << level
        if left > half:
            over = [row for row in rows[base >> level] if made.home[row] >= base + half]
            _join(made, over, base, level - 1)
        pairs = _add_within_groups(made, pairs, level)


def _reversed_bits(bits: int) -> Array:
    """The bit reversals of ``0 ... 2**bits - 1``, ``[2**bits]``.

    With them as targets, the half of the pieces that a node keeps is contiguous in memory.
    """
    numbers = np.arange(1 << bits)
    turned: Array = sum(((numbers >> bit & 1) << bits - 1 - bit for bit in range(bits)), 0 * numbers)
    return turned


def _join(made: _Builder, rows: Sequence[int], base: int, bits: int) -> None:
    """Sends rows of the remaining nodes to the ``2**bits`` nodes that begin with number ``base``.

    A remaining node sends to at most four of these nodes, and they forward its values together with their
    own messages. Otherwise a single remaining node would send a message to each of them.
    """
    nodes = made.nodes - base - (1 << bits)
    earliest = max(int(made.time[row].max()) for row in rows)
    for k in range(min(nodes.bit_length() + 1, bits), bits + 1):
        for row in rows:
            made.move([row], base + _reversed_bits(bits) % (1 << k), earliest)
        earliest = k


def _add_within_groups(made: _Builder, pairs: Sequence[tuple[int, int]], level: int) -> list[tuple[int, int]]:
    """Makes the additions that groups of ``2**level`` nodes can make. Returns the remaining pairs."""
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
    made.parts = made.nodes
    part = np.arange(made.parts)
    # For each sum and each node: how many partial sums are sent if the sum is computed on this node.
    cost = {row: np.where(part == n, 0, 4 * len(made.home)) for row, n in made.home.items()}
    inside = {row: part == n for row, n in made.home.items()}
    sums = []
    for i, j in made.pairs:
        operands = [(cost[row], inside[row]) for row in (i, j)]
        cost[i] = sum((np.minimum(c, c.min() + 1) for c, _ in operands), np.zeros_like(part))
        inside[i] = inside[i] | inside[j]
        sums.append((cost[i], inside[i], operands))
    # From the total down to its operands: the node that computes each of them.
    at = {id(cost[0]): _spread(made, cost[0], inside[0])}
    for total, _, operands in reversed(sums):
        place = at[id(total)]
        for c, within in operands:
            stays = (c[place] <= c.min() + 1) & within[place]
            at[id(c)] = np.where(stays, place, _spread(made, c, within))
    for (i, j), (total, _, _) in zip(made.pairs, sums, strict=True):
        made.move([i], at[id(total)])
        made.move([j], at[id(total)])
        made.add(i, j)


def _spread(made: _Builder, cost: Array, inside: Array) -> Array:
    """For each part, one of the cheapest nodes of ``inside``, in turn."""
    cheapest = np.flatnonzero(inside & (cost == cost[inside].min()))
    nodes: Array = cheapest[np.arange(made.parts) % len(cheapest)]
    return nodes


#: The rules by name: each records its transfers in a builder.
RULES: dict[str, Callable[[_Builder], None]] = {"direct": _direct, "halving": _halving, "fewest": _fewest}
