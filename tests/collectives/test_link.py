"""What the model of latency and bandwidth decides, and that all replicas decide alike."""

from itertools import count as counted

import pytest
from replicated import on_replicas, rank

from distopt.collectives.link import (
    Link,
    block_factor,
    block_sizes,
    cheapest_rule,
    exchange_seconds,
    measured_link,
)
from distopt.collectives.node_rounds import load
from distopt.distribute import get_replica_context

MEGABYTES = 1 << 21
SLOW = Link(5e-5, 1e-5, 8e-9)  # 1 Gbit/s
FAST = Link(1e-5, 1e-5, 8e-11)  # 100 Gbit/s
FAR = Link(20e-3, 1e-5, 8e-9)


def nodes(count, each=1):
    return tuple(tuple(range(n * each, (n + 1) * each)) for n in range(count))


def test_all_to_all_stays_where_bytes_decide_and_halving_costs_more_of_them():
    assert cheapest_rule(nodes(3), MEGABYTES, SLOW) == "direct"
    assert cheapest_rule(nodes(3), 64, SLOW) == "halving"


@pytest.mark.parametrize("count", [64, 256, pytest.param(1024, marks=pytest.mark.slow)])
def test_halving_where_messages_decide(count):
    assert cheapest_rule(nodes(count), MEGABYTES, FAST) == "halving"


def test_fewest_partial_sums_where_each_node_has_many():
    assert cheapest_rule(nodes(3, 36), 8 * MEGABYTES, SLOW) == "fewest"
    assert cheapest_rule(nodes(3), MEGABYTES, SLOW) != "fewest"


@pytest.mark.parametrize("link", [SLOW, FAST, FAR])
@pytest.mark.parametrize("nbytes", [1000, MEGABYTES])
@pytest.mark.parametrize("count", [2, 3, 5, 8, 33])
def test_no_rule_is_faster_than_the_one_that_is_chosen(count, nbytes, link):
    members = nodes(count)
    seconds = {rule: exchange_seconds(load(members, rule), nbytes, link) for rule in ("halving", "direct")}
    assert seconds[cheapest_rule(members, nbytes, link)] == min(seconds.values())


def test_time_is_latency_messages_and_bytes():
    """By hand: 8 nodes, 6 rounds of which 3 blocks share the latency, 6 messages, 7/4 of a block."""
    want = 6 * 20e-3 / 3 + 6 * 1e-5 + 1.75 * 1000 * 8e-9
    assert exchange_seconds(load(nodes(8), "halving"), 1000, FAR) == pytest.approx(want)


def test_blocks_grow_with_latency_and_with_the_nodes():
    assert block_factor(nodes(2), MEGABYTES, SLOW) == 1
    assert block_factor(nodes(2), MEGABYTES, FAR) == 8
    factors = [block_factor(nodes(count), MEGABYTES, FAST) for count in (2, 8, 64, 256, 1024)]
    assert factors == sorted(factors)
    assert factors[-1] > factors[0]


def test_blocks_of_small_models_are_smaller_where_latency_does_not_count():
    """So that little is left to send after the backward pass: half a megabyte of each replica."""
    usual = 1 << 19
    near = block_sizes(usual, 1, nodes(2), Link(2e-5, 5e-6, 8e-9))
    assert [near.of(n) for n in (1000, 5_800_000, 25_000_000)] == [1 << 17, 5_800_000 // 32, usual]
    shared = block_sizes(usual, 4, nodes(2), Link(2e-5, 5e-6, 8e-9))  # four replicas each send their part
    assert shared.of(1000) == usual
    far = block_sizes(usual, 1, nodes(2), FAR)
    assert (far.of(1000), far.of(10**9)) == (usual, 8 * usual)


@pytest.mark.parametrize("count", [2, 5])
def test_all_replicas_measure_the_same(monkeypatch, count):
    monkeypatch.setenv("DISTOPT_MEMORY", "private")

    def found():
        shards = get_replica_context().shards
        return shards.link, shards.block, shards.describe()

    results = on_replicas(count, found)
    link, _, text = results[0]
    assert set(results) == {results[0]}
    assert 0 < link.latency < 5
    assert f"between {count} nodes: " in text
    assert str(link) in text


def test_replicas_that_share_memory_measure_nothing():
    assert on_replicas(2, lambda: get_replica_context().shards.link) == [None, None]


@pytest.mark.parametrize(("slow", "most"), [(1e-6, 100), (2e-3, 14), (1.0, 4)])
def test_measuring_ends_for_all_when_it_has_taken_too_long_for_one(monkeypatch, slow, most):
    """Replica 1's clock goes on by so many seconds whenever it is read; all stop at the same measurement."""
    monkeypatch.setenv("DISTOPT_MEMORY", "private")

    def measure():
        comm, taken = get_replica_context().comm, []
        plain = comm.all_gather
        monkeypatch.setattr(comm, "all_gather", lambda array: taken.append(array) or plain(array))
        step, ticks = slow if rank() == 1 else 1e-6, counted()
        return measured_link(comm, comm, lambda: step * next(ticks)), len(taken)

    (link, taken), *others = on_replicas(3, measure)
    assert others == [(link, taken)] * 2
    assert taken >= 3  # what no link is known without
    assert taken <= most
    assert (slow < 1e-3) == (taken > 14)
