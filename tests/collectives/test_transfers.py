"""Exchanges between nodes: the tree's bits under every rule, and how many messages and bytes it takes."""

import math

import mailboxes
import numpy as np
import pytest

from distopt.collectives import reduce_rows
from distopt.collectives.node_rounds import load
from distopt.collectives.transfers import RULES, transfers

rules = pytest.mark.parametrize("rule", RULES)


def nodes(count, each=1):
    """So many nodes of ``each`` replicas."""
    return tuple(tuple(range(n * each, (n + 1) * each)) for n in range(count))


#: Name: the replicas of each node.
LAYOUTS = {
    **{f"{n} nodes": nodes(n) for n in range(2, 65)},
    **{f"{n} x {each}": nodes(n, each) for n, each in [(2, 3), (4, 6), (3, 5), (5, 28), (3, 36), (7, 12)]},
    "unequal nodes": ((0, 1, 2), (3, 4, 5, 6), (7,), (8, 9)),
    "dealt out": tuple(tuple(range(n, 20, 5)) for n in range(5)),
    "dealt out to nodes of a power of two": tuple(tuple(range(n, 24, 8)) for n in range(8)),
}


def random_rows(count, length=131):
    """Floats of all magnitudes: their sum depends on the order."""
    rng = np.random.default_rng(count)
    return (rng.normal(size=(count, length)) * 10.0 ** rng.integers(-4, 5, (count, length))).astype("f4")


def cases():
    """Halving on every layout; the other rules on every sixth number of nodes, and on what is special."""
    for layout in LAYOUTS:
        count = int(layout.split()[0]) if layout.endswith(" nodes") and layout[0].isdigit() else 1
        yield layout, "halving"
        if count < 9 or count % 6 == 1:
            yield layout, "direct"
            yield layout, "fewest"


@pytest.mark.parametrize(("layout", "rule"), list(cases()))
def test_all_nodes_get_the_bits_of_the_tree(layout, rule):
    members = LAYOUTS[layout]
    size = sum(map(len, members))
    rows = random_rows(size)
    want = np.empty_like(rows[0])
    reduce_rows(list(rows), want)
    if size > 3:
        assert want.tobytes() != np.add.reduce(rows[::-1]).tobytes()  # order matters
    given = rows.copy()
    order = np.random.default_rng(7).permutation(len(members)).tolist()
    totals, _ = mailboxes.exchanged(members, rule, rows, order)
    assert [total.tobytes() for total in totals] == [want.tobytes()] * len(members)
    assert rows.tobytes() == given.tobytes()


@rules
@pytest.mark.parametrize("length", [0, 1, 3, 8])
def test_blocks_shorter_than_their_parts(rule, length):
    rows = random_rows(7, length)
    want = np.empty_like(rows[0])
    reduce_rows(list(rows), want)
    totals, _ = mailboxes.exchanged(nodes(7), rule, rows, range(7))
    assert [total.tobytes() for total in totals] == [want.tobytes()] * 7


@rules
@pytest.mark.parametrize(
    "layout", ["2 nodes", "3 nodes", "7 nodes", "16 nodes", "2 x 3", "3 x 36", "dealt out"]
)
def test_what_a_rule_takes_is_what_the_network_counts(layout, rule):
    members = LAYOUTS[layout]
    found = load(members, rule)
    length = 64 * transfers(members, rule).parts
    rows = random_rows(sum(map(len, members)), length)
    _, network = mailboxes.exchanged(members, rule, rows, range(len(members)))
    assert max(network.messages.values()) == found.messages
    assert sum(network.nbytes.values()) == pytest.approx(4 * length * found.total)
    assert max(network.nbytes.values()) <= 4 * length * found.blocks


@pytest.mark.parametrize("count", [*range(2, 65), 127, 128, 129, 256, 257])
def test_halving_takes_messages_that_grow_with_the_logarithm(count):
    levels, found = math.ceil(math.log2(count)), load(nodes(count), "halving")
    assert found.rounds <= 2 * levels
    assert found.messages <= 2 * levels + 1
    least = 2 * (count - 1) / count
    assert found.blocks <= (1.5 if count == 3 else 1.35) * least
    if count & (count - 1) == 0:
        assert (found.messages, found.blocks) == (2 * levels, least)
    direct = load(nodes(count), "direct")
    assert (direct.rounds, direct.messages, direct.blocks) == (2, 2 * (count - 1), pytest.approx(least))


@pytest.mark.parametrize(
    ("count", "each", "rows"), [(8, 3, 2), (8, 6, 2), (16, 12, 2), (8, 28, 3), (8, 36, 4)]
)
def test_several_partial_sums_a_node_cost_bytes(count, each, rows):
    """All of them travel by halving; where the fewest travel, less over all nodes."""
    members = nodes(count, each)
    halving, fewest = load(members, "halving"), load(members, "fewest")
    once = (count - 1) / count
    assert halving.blocks == pytest.approx((rows + 1) * once)
    assert halving.messages == 2 * math.log2(count)
    assert fewest.total < 0.9 * halving.total


@pytest.mark.parametrize("count", [2, 4, 8, 16])
def test_the_fewest_partial_sums_travel(count):
    """By hand: of 3 replicas a node, at every other border a sum of neighbours, and N - 1 joins."""
    found = transfers(nodes(count, 3), "fewest")
    assert len(found.sent) / found.parts == 1.5 * count - 1
