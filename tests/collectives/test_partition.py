"""Who updates what: every element once, in runs that do not depend on the number of replicas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distopt.collectives.partition import BLOCK, PIECE, blocks, partition
from distopt.engine.owners import owners

sizes = st.lists(
    st.one_of(st.just(0), st.integers(1, 50), st.integers(1, 20_000), st.integers(250_000, 300_000)),
    max_size=6,
)


@given(sizes=sizes, parts=st.integers(1, 9))
def test_every_element_once_and_in_order(sizes, parts):
    cut = blocks(tuple(sizes), parts)
    segments = [s for block in cut for shard in block.shards for s in shard.segments]
    seen = [(s.variable, s.start, s.stop) for s in segments]
    assert seen == sorted(seen)
    at = dict.fromkeys(range(len(sizes)), 0)
    for variable, start, stop in seen:
        assert start == at[variable]
        assert stop > start
        at[variable] = stop
    assert list(at.values()) == sizes


@given(sizes=sizes, parts=st.integers(1, 9))
def test_shards_fill_their_blocks(sizes, parts):
    for block in blocks(tuple(sizes), parts):
        assert len(block.shards) == parts
        end = 0
        for shard in block.shards:
            assert shard.start == end
            assert shard.size == sum(s.stop - s.start for s in shard.segments)
            end += shard.size
        assert end == block.size
        assert 0 < block.size <= BLOCK + PIECE


@given(sizes=sizes, parts=st.integers(1, 9))
def test_cuts_fall_between_pieces(sizes, parts):
    """So that a norm's partial sums are those of whole pieces, on any number of replicas."""
    for block in blocks(tuple(sizes), parts):
        for shard in block.shards:
            for s in shard.segments:
                assert s.start % PIECE == 0
                assert s.stop % PIECE == 0 or s.stop == sizes[s.variable]


@given(sizes=sizes, parts=st.integers(1, 9))
def test_blocks_hold_every_element_once_in_order(sizes, parts):
    found = [s for block in blocks(tuple(sizes), parts) for shard in block.shards for s in shard.segments]
    at = {}
    for s in found:
        assert s.start == at.get(s.variable, 0)
        at[s.variable] = s.stop
    assert [s.variable for s in found] == sorted(s.variable for s in found)
    assert at == {i: size for i, size in enumerate(sizes) if size}


@given(sizes=sizes, parts=st.integers(2, 32))
def test_the_rows_of_all_replicas_take_the_same_memory(sizes, parts):
    for block in blocks(tuple(sizes), parts):
        assert parts * (block.size - PIECE) <= 4 * BLOCK


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_shares_are_nearly_equal(parts):
    for block in blocks((3 * BLOCK,), parts):
        shares = [shard.size for shard in block.shards]
        assert max(shares) - min(shares) <= PIECE


@given(sizes=sizes, parts=st.integers(1, 5), itemsize=st.sampled_from([2, 4, 8]))
def test_tables_say_the_same_in_bytes(sizes, parts, itemsize):
    for own in range(parts):
        found = partition(tuple(sizes), parts, own, itemsize)
        for number, block in enumerate(found.blocks):
            wanted = {True: [], False: []}
            for part, shard in enumerate(block.shards):
                at = shard.start
                for s in shard.segments:
                    row = [s.variable, *(itemsize * n for n in (s.start, s.stop - s.start, at))]
                    wanted[part == own].append(row)
                    at += s.stop - s.start
            assert found.own_in(number).tolist() == wanted[True]
            assert found.others_in(number).tolist() == wanted[False]
            assert sorted(found.everyone_in(number).tolist()) == sorted(wanted[True] + wanted[False])


@given(sizes=st.lists(st.integers(0, 1000), max_size=20), parts=st.integers(1, 9))
def test_owners_share_the_load(sizes, parts):
    dealt = owners(sizes, parts)
    assert len(dealt) == len(sizes)
    assert all(0 <= part < parts for part in dealt)
    load = [sum(max(n, 1) for n, part in zip(sizes, dealt) if part == p) for p in range(parts)]
    assert max(load) - min(load) <= max([*sizes, 1])
