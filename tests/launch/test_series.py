"""Numbers in bounded memory: means stay true, whatever the length."""

import pytest
from distopt_launch.series import Heat, Series


def test_a_series_keeps_its_mean_and_its_ends_in_bounded_memory():
    series = Series(most=8)
    for k in range(1000):
        series.add(k, 3.0 * k)
    at, values = series.columns()
    assert len(at) <= 9
    assert at == sorted(at)
    assert at[0] < 100
    assert at[-1] > 900
    assert values == pytest.approx([3 * t for t in at])


def test_a_short_series_is_kept_as_it_is():
    series = Series(most=8)
    for k in range(5):
        series.add(k, k * k)
    assert series.columns() == ([0, 1, 2, 3, 4], [0, 1, 4, 9, 16])


def test_heat_by_steps_and_by_groups_of_steps_agree():
    """A group's mean stands for each of its steps, and columns hold the mean of theirs."""
    single, grouped = Heat(2, most=16), Heat(2, most=16)
    for first in range(5, 1005, 4):
        for replica in range(2):
            value = 10 * replica + first
            grouped.add(first, first + 3, replica, value)
            for step in range(first, first + 4):
                single.add(step, step, replica, value)
    a, b = single.document(), grouped.document()
    assert a["first"] == b["first"]
    assert (a["last"], a["each"]) == (b["last"], b["each"]) == (1004, 64)
    for row, other in zip(a["cells"], b["cells"], strict=True):
        assert row == pytest.approx(other)
    assert a["cells"][1][0] - a["cells"][0][0] == pytest.approx(10)


def test_heat_leaves_unknown_steps_empty():
    heat = Heat(2)
    heat.add(3, 3, 0, 0.5)
    heat.add(5, 5, 0, 1.5)
    heat.add(2, 2, 0, 9.0)  # before the first: of an attempt before
    heat.add(5, 5, 7, 9.0)  # no such replica
    assert heat.document() == {
        "first": [3, 4, 5],
        "last": 5,
        "each": 1,
        "cells": [[0.5, None, 1.5], [None, None, None]],
    }
