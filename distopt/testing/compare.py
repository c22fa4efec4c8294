"""Compares two recordings of a program: are they bitwise equal, and where do they diverge?"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from distopt.trace import StepRecord
from distopt.typing import Array

__all__ = ["Divergence", "final_state", "first_divergence"]


@dataclass(frozen=True)
class Divergence:
    """The first place where two recordings differ.

    Attributes:
        step: the step, counted from 1.
        variable: the variable's name; empty if the steps themselves differ.
        index: the first element that differs, in memory order.
        values: its values in the first and the second recording.
        reason: what differs, if not a value.
    """

    step: int
    variable: str = ""
    index: tuple[int, ...] = ()
    values: tuple[Any, Any] = (None, None)
    reason: str = ""

    def __str__(self) -> str:
        if self.reason:
            return f"step {self.step}: {self.reason}"
        where = f"variable {self.variable!r}, index {self.index}"
        return f"step {self.step}, {where}: {self.values[1]!s} instead of {self.values[0]!s}"


def first_divergence(first: Iterable[StepRecord], second: Iterable[StepRecord]) -> Divergence | None:
    """Where two recordings diverge; None if they are bitwise equal."""
    step = 0
    for a, b in zip_longest(first, second):
        if a is None or b is None:
            ended = "the first" if a is None else "the second"
            return Divergence(step + 1, reason=f"{ended} ended after {step} steps")
        step = a.step
        if _kinds(a) != _kinds(b):
            return Divergence(step, reason=f"other variables, {_described(b)} instead of {_described(a)}")
        for name, x, y in zip(a.names, a.values, b.values, strict=True):
            index = _first_index(x, y)
            if index is not None:
                return Divergence(step, name, index, (x[index], y[index]))
    return None


def final_state(records: Iterable[StepRecord]) -> tuple[int, str]:
    """The number of steps, and a SHA-256 of the last values of all variables; empty without steps."""
    last: dict[tuple[str, int], Array] = {}
    steps = 0
    for record in records:
        seen: Counter[str] = Counter()
        for name, value in zip(record.names, record.values, strict=True):
            last[name, seen[name]] = value
            seen[name] += 1
        steps = record.step
    state = hashlib.sha256()
    for (name, _), value in sorted(last.items(), key=lambda item: item[0]):
        state.update(f"{name} {value.dtype.str} {value.shape}\n".encode())
        state.update(value.tobytes())
    return steps, state.hexdigest() if steps else ""


def _kinds(record: StepRecord) -> list[tuple[str, str, tuple[int, ...]]]:
    pairs = zip(record.names, record.values, strict=True)
    return [(name, value.dtype.str, value.shape) for name, value in pairs]


def _described(record: StepRecord) -> str:
    kinds = [f"{name} {dtype}{list(shape)}" for name, dtype, shape in _kinds(record)]
    return ", ".join(kinds[:4]) + (", ..." if len(kinds) > 4 else "")


def _first_index(a: Array, b: Array) -> tuple[int, ...] | None:
    """The first element whose bytes differ; so NaN equals itself, and 0 does not equal -0."""
    x, y = (np.frombuffer(v.tobytes(), np.uint8).reshape(v.size, v.itemsize) for v in (a, b))
    places = np.flatnonzero((x != y).any(axis=1))
    return tuple(int(i) for i in np.unravel_index(places[0], a.shape)) if len(places) else None
