"""States that are refused before anything is put back."""

import random

import numpy as np
import pytest

from distopt.checkpoint.holders import GlobalStreams, holder_of

RUBBISH = [None, 5, "abc", {"numpy": 1, "python": 2}, (3, np.ones(4, np.uint32), None), [1, 2], {"a": 1}]
HELD = {
    "dict": (lambda: {"a": 1}, dict),
    "list": (lambda: [1, 2], list),
    "generator": (lambda: np.random.default_rng(0), ()),
    "random": (lambda: random.Random(0), ()),
}


@pytest.mark.parametrize("kind", HELD)
def test_a_state_of_a_wrong_kind_is_refused_and_nothing_changes(kind):
    make, fitting = HELD[kind]
    holder = holder_of(make())
    before = repr(holder.get_state())
    for state in RUBBISH:
        if isinstance(state, fitting):
            holder.check_state(state)
        else:
            with pytest.raises((TypeError, ValueError, KeyError)):
                holder.check_state(state)
        assert repr(holder.get_state()) == before


def test_global_streams_refuse_what_is_not_theirs():
    streams = GlobalStreams()
    before = repr(streams.get_state())
    for state in RUBBISH:
        with pytest.raises((TypeError, ValueError, KeyError, IndexError)):
            streams.check_state(state)
    streams.check_state(streams.get_state())
    assert repr(streams.get_state()) == before
