"""LedgerFeed: sends new contents of a job's ledger as messages of kind ``steps``.

Their members:
    replicas: the number of replicas.
    first, last: the range of steps.
    offsets: pairs of a replica and its mean delay over these steps: seconds after the arrival of the first
        replica.
    totals: pairs of a replica and its seconds in each phase, in the order of `job_record.PHASES`.
    counts: the number of steps since the last message that had this member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .ledger import LedgerRow, LedgerView, find

#: The largest number of groups of steps, and of rows, that are read at a time.
_GROUPS, _ROWS = 40, 2000
#: How many calls before a call are searched for the first one of its step.
_CALLS = 8
#: The largest number of replicas in a message with totals, and with offsets.
_TOTALS, _OFFSETS = 24, 100


class LedgerFeed:
    """Sends new contents of a ledger.

    Args:
        pid: the process of replica 0.
        tell: sends a message; takes its kind, and its members as keyword arguments.
    """

    def __init__(self, pid: int, tell: Callable[..., None]) -> None:
        self._pid, self._tell = pid, tell
        self._ledger: LedgerView | None = None
        self._call = self._step = 0

    def proceed(self) -> None:
        """Sends the contents since the last call of this method."""
        if self._ledger is None:
            self._ledger = _opened(self._pid)
        if self._ledger is not None:
            self._send(self._ledger)

    def _send(self, ledger: LedgerView) -> None:
        latest = ledger.latest_of_all()
        if latest == self._call:
            return
        steps = self._new_steps(ledger, latest)
        self._call = latest
        common: dict[str, Any] = {"replicas": ledger.replicas}
        last = max((step for step, _ in steps), default=self._step)
        rows = ledger.rows(latest) or []
        totals = [[r, [round(s, 4) for s in row.seconds]] for r, row in enumerate(rows)]
        counts = last - self._step
        for part in _parts(totals, _TOTALS):
            span = {"first": max(last, 1), "last": max(last, 1), "counts": counts}
            self._tell("steps", totals=part, offsets=[], **span, **common)
            counts = 0
        self._step = last
        for group in _groups(steps):
            sums = [sum(column) / len(group) for column in zip(*(o for _, o in group), strict=True)]
            offsets = [[r, round(value, 7)] for r, value in enumerate(sums)]
            for pairs in _parts(offsets, _OFFSETS):
                self._tell("steps", first=group[0][0], last=group[-1][0], totals=[], offsets=pairs, **common)

    def _new_steps(self, ledger: LedgerView, latest: int) -> list[tuple[int, list[float]]]:
        """New steps, a sample if they are many, each with the delays of the replicas, in seconds."""
        stride = max(1, (latest - self._call) * ledger.replicas // _ROWS)
        found: dict[int, list[float]] = {}
        for call in range(self._call + stride, latest + 1, stride):
            rows = _opening(ledger, call)
            if rows is not None and rows[0].step > self._step and rows[0].step not in found:
                first = min(row.arrival for row in rows)
                found[rows[0].step] = [row.arrival - first for row in rows]
        return sorted(found.items())


def _opening(ledger: LedgerView, call: int) -> list[LedgerRow] | None:
    """The rows of the first call of the step that ``call`` belongs to, among the `_CALLS` calls before it."""
    rows = ledger.rows(call)
    for before in range(call - 1, max(0, call - _CALLS), -1):
        earlier = ledger.rows(before)
        if rows is None or earlier is None or earlier[0].step != rows[0].step:
            break
        rows = earlier
    return rows


def _opened(pid: int) -> LedgerView | None:
    try:
        path = find(pid)
        return None if path is None else LedgerView(path)
    except (OSError, ValueError, KeyError):
        return None


def _groups(steps: list[tuple[int, list[float]]]) -> Iterator[list[tuple[int, list[float]]]]:
    """Divides the steps into at most `_GROUPS` groups of consecutive steps."""
    size = -(-len(steps) // _GROUPS)
    return (steps[k : k + size] for k in range(0, len(steps), size or 1))


def _parts(pairs: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (pairs[k : k + size] for k in range(0, len(pairs), size))
