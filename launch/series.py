"""Series and Heat: numbers over time or steps, in bounded memory.

If there are too many, neighbours are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

_Number = TypeVar("_Number", int, float)


class Series:
    """A number over time.

    Args:
        most: the largest number of points, an even number. When it is reached, each two neighbours become
            one.
    """

    def __init__(self, most: int = 600) -> None:
        self._most = most
        self._each = 1  # samples per point
        self._points: list[tuple[float, float]] = []
        self._open: list[tuple[float, float]] = []  # the samples of the next point

    def add(self, at: float, value: float) -> None:
        """Adds a sample; ``at`` must not decrease."""
        self._open.append((at, value))
        if len(self._open) == self._each:
            self._points.append(_mean(self._open))
            self._open = []
        if len(self._points) == self._most:
            self._points = [_mean(self._points[k : k + 2]) for k in range(0, self._most, 2)]
            self._each *= 2

    def columns(self) -> tuple[list[float], list[float]]:
        """The times and the values."""
        points = [*self._points, *([_mean(self._open)] if self._open else [])]
        return [at for at, _ in points], [value for _, value in points]


def _mean(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(p[0] for p in points) / len(points), sum(p[1] for p in points) / len(points)


class Heat:
    """A table of numbers, with a row for each replica and a column for each step, or each group of steps.

    Args:
        replicas: the number of replicas.
        most: the largest number of columns. When it is reached, each two neighbours become one.
    """

    def __init__(self, replicas: int, most: int = 512) -> None:
        self._replicas, self._most = replicas, most
        self._each = 1  # steps per column
        self._origin: int | None = None
        self._last = 0
        self._sums: list[list[float]] = []
        self._counts: list[list[int]] = []

    def add(self, first: int, last: int, replica: int, value: float) -> None:
        """Adds the mean value of one replica over the steps from ``first`` to ``last``."""
        if self._origin is None:
            self._origin = first
        if first < self._origin or last < first or not 0 <= replica < self._replicas:
            return
        self._last = max(self._last, last)
        while (last - self._origin) // self._each >= self._most:
            self._halve()
        begin, end = (first - self._origin) // self._each, (last - self._origin) // self._each
        while len(self._sums) <= end:
            self._sums.append([0.0] * self._replicas)
            self._counts.append([0] * self._replicas)
        for column in range(begin, end + 1):
            low = max(first, self._origin + column * self._each)
            steps = min(last, self._origin + (column + 1) * self._each - 1) - low + 1
            self._sums[column][replica] += value * steps
            self._counts[column][replica] += steps

    def _halve(self) -> None:
        self._each *= 2
        self._sums, self._counts = _pairs(self._sums), _pairs(self._counts)

    def document(self) -> dict[str, object]:
        """The table for the report: first step of each column, last step, steps per column, rows."""
        first = [(self._origin or 0) + k * self._each for k in range(len(self._sums))]
        cells = [
            [
                total[replica] / count[replica] if count[replica] else None
                for total, count in zip(self._sums, self._counts, strict=True)
            ]
            for replica in range(self._replicas)
        ]
        return {"first": first, "last": self._last, "each": self._each, "cells": cells}


def _pairs(rows: list[list[_Number]]) -> list[list[_Number]]:
    """The sums of each two neighbouring rows."""
    return [
        [a + b for a, b in zip(*rows[k : k + 2], strict=True)] if k + 1 < len(rows) else rows[k]
        for k in range(0, len(rows), 2)
    ]
