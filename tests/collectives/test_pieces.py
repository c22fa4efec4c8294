"""Transfers are made of pieces; here they are made part after part, as the words of the rule say."""

import math

import pytest
from test_transfers import LAYOUTS, nodes

from distopt.collectives.link import Link, block_factor
from distopt.collectives.transfers import transfers
from distopt.collectives.tree import live_rows, local_pairs, tree_pairs


class Halving:
    """Recursive halving: for each row and part where it is, and after how many rounds."""

    def __init__(self, members):
        self.nodes, size = len(members), sum(map(len, members))
        bits = self.nodes.bit_length() - 1
        self.turned = [int(f"{part:0{bits}b}"[::-1], 2) for part in range(1 << bits)]
        self.home = {row: n for n, numbers in enumerate(members) for row in live_rows(size, numbers)}
        done = {pair for numbers in members for pair in local_pairs(size, numbers)}
        self.pairs = [pair for pair in tree_pairs(size) if pair not in done]
        self.at = {row: [n] * len(self.turned) for row, n in self.home.items()}
        self.time = {row: [0] * len(self.turned) for row in self.home}
        self.sent, self.added = set(), set()
        for level in range(1, (self.nodes - 1).bit_length() + 1):
            for base in range(0, self.nodes, 1 << level):
                self.meet(base, level)
            self.add(level)

    def meet(self, base, level):
        half, rows = 1 << level - 1, [row for row in self.at if self.home[row] >> level == base >> level]
        over = [row for row in rows if self.home[row] >= base + half]
        if base + 2 * half <= self.nodes:
            self.move(rows, base, level, level - 1)
        elif over:
            after = max(max(self.time[row]) for row in over)
            for k in range(min((self.nodes - base - half).bit_length() + 1, level - 1), level):
                self.move(over, base, k, after)
                after = k

    def move(self, rows, base, bits, earliest):
        for row in rows:
            for part, turned in enumerate(self.turned):
                to, source = base + turned % (1 << bits), self.at[row][part]
                if source != to:
                    when = max(self.time[row][part], earliest)
                    self.sent.add((when, source, to, row, part))
                    self.at[row][part], self.time[row][part] = to, when + 1

    def add(self, level):
        blocked, left = set(), []
        for i, j in self.pairs:
            if {i, j} & blocked or self.home[i] >> level != self.home[j] >> level:
                blocked |= {i, j}
                left.append((i, j))
                continue
            assert self.at[i] == self.at.pop(j)
            self.time[i] = list(map(max, self.time[i], self.time.pop(j)))
            places = enumerate(zip(self.time[i], self.at[i], strict=True))
            self.added |= {(time - 1, place, i, j, part) for part, (time, place) in places}
        self.pairs = left

    def back(self):
        """A part's total comes from where a node has sent what it sent last of that part."""
        rounds = max(self.time[0])
        last = {(source, part): (when, to) for when, source, to, _, part in sorted(self.sent)}
        return {(rounds - 1 - when, to, source, part) for (source, part), (when, to) in last.items()}


def parts_of(table):
    return {(*row[:-2], part) for row in table.tolist() for part in range(*row[-2:])}


@pytest.mark.parametrize(
    "layout", [name for name, members in LAYOUTS.items() if len(members) < 20 or len(members) == 33]
)
def test_pieces_are_the_parts(layout):
    found, want = transfers(LAYOUTS[layout], "halving"), Halving(LAYOUTS[layout])
    assert parts_of(found.sent) == want.sent
    assert parts_of(found.added) == want.added
    assert parts_of(found.back) == want.back()
    assert found.owner.tolist() == want.at[0]


@pytest.mark.parametrize("count", [64, 1024])
def test_pieces_grow_with_n_log_n(count):
    """So the plan for 1,024 nodes is made at once; of parts they would be 100 times as many."""
    found = transfers(nodes(count), "halving")
    assert len(found.sent) == len(found.back) == count * math.log2(count)
    assert found.parts == count


def test_more_nodes_than_make_direct_messages_worthwhile_are_not_even_asked():
    """N^2 messages are not planned for 1,000 nodes: by the memory of what has been planned."""
    transfers.cache_clear()
    block_factor(nodes(1000), 1 << 21, Link(5e-5, 1e-5, 8e-9))
    assert transfers.cache_info().misses == 1
