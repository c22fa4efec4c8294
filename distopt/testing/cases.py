"""Test cases for aggregators: every kind of gradient that an optimizer may pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from distopt.core.indexed_slices import IndexedSlices
from distopt.core.random import stream
from distopt.core.variable import Variable
from distopt.typing import Array

__all__ = ["CASES", "Pairs"]

Pairs = list[tuple[Any, Variable]]


def _pairs(replica: int, *kinds: tuple[tuple[int, ...], str]) -> Pairs:
    """A variable for each (shape, dtype), with a gradient that depends on the replica."""
    random = stream(7, replica=replica)
    pairs: Pairs = []
    for i, (shape, dtype) in enumerate(kinds):
        variable = Variable(np.ones(shape, dtype), name=f"v{i}")
        pairs.append((np.asarray(random.normal(size=shape)).astype(dtype), variable))
    return pairs


def _dense(replica: int) -> Pairs:
    return _pairs(replica, ((4, 3), "f4"), ((5,), "f4"), ((2, 3, 2), "f4"))


def _mixed(replica: int) -> Pairs:
    return _pairs(replica, ((3,), "f8"), ((4, 3), "f4"), ((2,), "f2"), ((3,), "f4"))


def _empty(replica: int) -> Pairs:
    return _pairs(replica, ((), "f4"), ((0,), "f4"), ((0, 3), "f4"), ((1,), "f4"))


def _none(replica: int) -> Pairs:
    first, second, third = _pairs(replica, ((3,), "f4"), ((2, 2), "f4"), ((2,), "f4"))
    return [first, (None, second[1]), third]


def _sparse(replica: int) -> Pairs:
    """Different rows on each replica, one of them twice; none on replica 1; and a dense gradient."""
    (_, table), dense = _pairs(replica, ((6, 2), "f4"), ((3,), "f4"))
    where = np.array([] if replica == 1 else [replica % 6, 5, replica % 6], np.int64)
    rows: Array = stream(8, replica=replica).normal(size=(len(where), 2)).astype("f4")
    return [(IndexedSlices(rows, where, (6, 2)), table), dense]


def _nothing(_replica: int) -> Pairs:
    return []


def _zeros(replica: int) -> Pairs:
    return [(np.zeros_like(g), v) for g, v in _dense(replica)]


#: The name of each case, and a function that makes its pairs on a replica.
CASES: dict[str, Callable[[int], Pairs]] = {
    "dense": _dense,
    "mixed dtypes": _mixed,
    "empty and scalar": _empty,
    "None gradients": _none,
    "sparse": _sparse,
    "all zero": _zeros,
    "no pairs": _nothing,
}
