"""The order of sums: one tree over replica numbers, however the replicas lie on nodes."""

import itertools
from itertools import pairwise

import numpy as np
import pytest

from distopt.collectives import reduce_rows, tree_pairs
from distopt.collectives.tree import live_rows, local_pairs
from distopt.core.split import share, shares

SIZES = range(1, 10)


def reference(terms):
    """Neighbours first, then pairs of those; one left over goes up alone."""
    while len(terms) > 1:
        terms = [terms[i] + terms[i + 1] if i + 1 < len(terms) else terms[i] for i in range(0, len(terms), 2)]
    return terms[0]


class Name(str):
    """A term whose sum shows how it was made."""

    def __add__(self, other):
        return Name(f"({self!s}+{other!s})")


def names(size):
    return [Name(i) for i in range(size)]


def combine(rows, pairs):
    for i, j in pairs:
        rows[i] = rows[i] + rows[j]
    return rows


@pytest.mark.parametrize(
    ("size", "want"), [(1, "0"), (2, "(0+1)"), (3, "((0+1)+2)"), (6, "(((0+1)+(2+3))+(4+5))")]
)
def test_order_by_hand(size, want):
    assert combine(names(size), tree_pairs(size))[0] == want


@pytest.mark.parametrize("size", [*SIZES, 16, 33])
def test_order_is_that_of_the_recursive_tree(size):
    assert combine(names(size), tree_pairs(size))[0] == reference(names(size))
    assert len(tree_pairs(size)) == size - 1


def splittings(size):
    """All ways to cut the replicas into nodes of neighbours; some dealt out crosswise as well."""
    for cuts in itertools.chain.from_iterable(itertools.combinations(range(1, size), k) for k in range(size)):
        bounds = [0, *cuts, size]
        yield [tuple(range(a, b)) for a, b in itertools.pairwise(bounds)]
    for nodes in range(2, size):
        yield [tuple(range(first, size, nodes)) for first in range(nodes)]


@pytest.mark.parametrize("size", SIZES)
def test_partial_trees_of_nodes_make_the_whole_tree(size):
    seen = 0
    for nodes in splittings(size):
        rows, done = names(size), set()
        for members in nodes:
            local = local_pairs(size, members)
            assert {r for pair in local for r in pair} <= set(members)
            combine(rows, local)
            done.update(local)
            spent = {j for _, j in local}
            assert live_rows(size, members) == tuple(m for m in members if m not in spent)
        # Only what is alive travels between nodes.
        alive = {row for members in nodes for row in live_rows(size, members)}
        rest = [pair for pair in tree_pairs(size) if pair not in done]
        assert {r for pair in rest for r in pair} <= alive
        assert combine(rows, rest)[0] == reference(names(size)), nodes
        seen += 1
    assert seen >= 2 ** (size - 1)


@pytest.mark.parametrize("length", [0, 1, 5, 16384, 16385, 40000])
@pytest.mark.parametrize("size", SIZES)
def test_sums_of_arrays_have_the_bits_of_the_tree(size, length):
    generator = np.random.default_rng(size)
    rows = [(generator.normal(size=length) * 10.0**k).astype("f4") for k in generator.integers(-6, 6, size)]
    kept = [row.copy() for row in rows]
    out = np.full(length, np.nan, "f4")
    reduce_rows(rows, out)
    assert out.tobytes() == reference(kept).tobytes()
    assert all(np.array_equal(row, keep) for row, keep in zip(rows, kept))


def test_the_order_can_be_seen_in_the_bits():
    """Otherwise the test before would hold for any order."""
    generator = np.random.default_rng(1)
    rows = [generator.normal(size=1000).astype("f4") for _ in range(7)]
    tree, line = np.empty(1000, "f4"), np.empty(1000, "f4")
    reduce_rows(rows, tree)
    reduce_rows(rows, line, np.add, [(0, j) for j in range(1, 7)])
    assert tree.tobytes() != line.tobytes()
    assert np.allclose(tree, line, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_result_may_lie_in_the_first_row(size):
    rows = [np.arange(20000.0) * (i + 1) for i in range(size)]
    want = reference([row.copy() for row in rows])
    reduce_rows(rows, rows[0])
    assert np.array_equal(rows[0], want)


@pytest.mark.parametrize(("ufunc", "want"), [(np.minimum, [0, -4]), (np.maximum, [4, 0])])
def test_extremes(ufunc, want):
    rows = [np.array([i, -i]) for i in range(5)]
    out = np.empty(2, int)
    reduce_rows(rows, out, ufunc)
    assert out.tolist() == want


@pytest.mark.parametrize(("length", "parts"), [(0, 3), (2, 5), (10, 3), (12, 4)])
def test_shards_cover_everything_once(length, parts):
    bounds = [share(length, part, parts) for part in range(parts)]
    assert (bounds[0][0], bounds[-1][1]) == (0, length)
    assert all(before[1] == after[0] for before, after in pairwise(bounds))
    sizes = [stop - start for start, stop in bounds]
    assert sizes == shares(length, parts)
    assert min(sizes) >= 0
    assert max(sizes) - min(sizes) <= 1
