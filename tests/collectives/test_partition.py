"""Who updates what: every element once, in runs that do not depend on the number of replicas."""

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distopt.collectives.partition import BLOCK, PIECE, partition, segments
from distopt.engine.owners import owners

sizes = st.lists(
    st.one_of(st.just(0), st.integers(1, 50), st.integers(1, 20_000), st.integers(250_000, 300_000)),
    max_size=6,
)


def blocks(sizes, parts):
    """The segments of each block: shard, variable, start, length, place."""
    table = segments(tuple(sizes), parts).tolist()
    return [[row for _, *row in rows] for _, rows in groupby(table, key=lambda row: row[0])]


@given(sizes=sizes, parts=st.integers(1, 9))
def test_every_element_once_and_in_order(sizes, parts):
    seen = [row[1:4] for block in blocks(sizes, parts) for row in block]
    assert seen == sorted(seen)
    at = dict.fromkeys(range(len(sizes)), 0)
    for variable, start, length in seen:
        assert start == at[variable]
        assert length > 0
        at[variable] += length
    assert list(at.values()) == sizes


@given(sizes=sizes, parts=st.integers(1, 9))
def test_shards_fill_their_blocks(sizes, parts):
    for block in blocks(sizes, parts):
        shards = [shard for shard, *_ in block]
        assert shards == sorted(shards)
        assert 0 <= shards[0] <= shards[-1] < parts
        end = 0
        for *_, length, place in block:
            assert place == end
            end += length
        assert 0 < end <= BLOCK + PIECE


@given(sizes=sizes, parts=st.integers(1, 9))
def test_segments_are_as_long_as_can_be(sizes, parts):
    for block in blocks(sizes, parts):
        assert len({(shard, variable) for shard, variable, *_ in block}) == len(block)


@given(sizes=sizes, parts=st.integers(1, 9))
def test_cuts_fall_between_pieces(sizes, parts):
    """So that a norm's partial sums are those of whole pieces, on any number of replicas."""
    for block in blocks(sizes, parts):
        for _, variable, start, length, _ in block:
            assert start % PIECE == 0
            assert (start + length) % PIECE == 0 or start + length == sizes[variable]


@given(sizes=sizes, parts=st.integers(2, 32))
def test_the_rows_of_all_replicas_take_the_same_memory(sizes, parts):
    for block in blocks(sizes, parts):
        assert parts * (sum(length for *_, length, _ in block) - PIECE) <= 4 * BLOCK


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_shares_are_nearly_equal(parts):
    for block in blocks((3 * BLOCK,), parts):
        shares = [length for *_, length, _ in block]
        assert len(shares) == parts
        assert max(shares) - min(shares) <= PIECE


@given(sizes=sizes, parts=st.integers(1, 5), itemsize=st.sampled_from([2, 4, 8]))
def test_a_replica_has_the_same_in_bytes(sizes, parts, itemsize):
    for own in range(parts):
        found = partition(tuple(sizes), parts, own, itemsize)
        cut = blocks(sizes, parts)
        assert found.blocks == len(cut)
        for number, block in enumerate(cut):
            rows = [(shard, [v, *(itemsize * n for n in numbers)]) for shard, v, *numbers in block]
            assert found.own_in(number).tolist() == [row for shard, row in rows if shard == own]
            assert found.others_in(number).tolist() == [row for shard, row in rows if shard != own]
            assert found.everyone_in(number).tolist() == [row for _, row in rows]
            mine = [numbers for shard, *numbers in block if shard == own]
            size = sum(length for *_, length, _ in mine)
            begin = mine[0][-1] if mine else 0
            assert found.shard(number) == slice(begin, begin + size)
            parts_of = [(v, slice(start, start + length)) for v, start, length, _ in mine]
            assert found.elements(found.own_in(number)) == parts_of


@given(sizes=st.lists(st.integers(0, 1000), max_size=20), parts=st.integers(1, 9))
def test_owners_share_the_load(sizes, parts):
    dealt = owners(sizes, parts)
    assert len(dealt) == len(sizes)
    assert all(0 <= part < parts for part in dealt)
    load = [sum(max(n, 1) for n, part in zip(sizes, dealt) if part == p) for p in range(parts)]
    assert max(load) - min(load) <= max([*sizes, 1])
