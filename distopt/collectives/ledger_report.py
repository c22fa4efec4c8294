"""Reports from the ledger: the time of each replica by phase, and which replica the others waited for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from distopt.collectives.ledger import Ledger
from distopt.collectives.ledger_layout import CAUSES, PHASES, Phase, Row, Total
from distopt.collectives.slow_wire import SlowWire, slow_wire
from distopt.typing import Array

__all__ = ["Report", "Straggler", "closing_words", "recently_last"]

#: A replica is named only if more than this share of the time was lost, and it caused this share of the loss.
_LOST, _CAUSED = 0.1, 0.7
#: At the end of a job, also only if the job made this many calls and lost this many seconds.
_CALLS, _SECONDS = 20, 1.0
_ADVICE = {
    "own code": "Does it have more work than the others (longer batches, work that only it does), or a "
    "slower or busier machine? Check the load of its machine and its number of threads",
    "input": "Its data arrive too slowly: check its disk or network, the workers that read ahead, and the "
    "preprocessing of each example",
    "saving": "It saves while the others wait: use save(background=True), save less often, or divide the "
    "work among replicas",
    "wire": "Messages reach it late: check its network and that of the senders (distoptrun --check measures "
    "them)",
    "sum and update": "It is slow within the step itself: check the load and the memory of its machine",
}


@dataclass(frozen=True)
class Straggler:
    """The replica that the others have waited for most.

    Attributes:
        replica: its number.
        cause: the phase that made it late, one of ``CAUSES``.
        seconds: how long the others have waited for it, on average.
        steps: in how many steps it arrived last.
        times: in how many collective calls it arrived last because of ``cause``.
    """

    replica: int
    cause: str
    seconds: float
    steps: int
    times: int


@dataclass(frozen=True)
class Report:
    """How the time of a job was spent, since its start or in a part of it.

    Attributes:
        replica: the replica that made the report.
        seconds: the length of the period.
        calls: how many collective calls were made.
        steps: how many optimizer steps were begun.
        spent: seconds of each replica in each phase, up to its last call: ``[replicas, len(PHASES)]``.
        last_calls: in how many calls each replica arrived last, ``[replicas]``.
        last_steps: in how many steps each replica arrived last, ``[replicas]``.
        last_causes: ``last_calls`` by cause: ``[replicas, len(CAUSES)]``.
        cost: seconds that the others have waited for it, on average, by cause: ``[replicas, len(CAUSES)]``.
        clock_error: the largest error of other nodes' times, in seconds.
        virtual: whether the replicas take turns in one process. Then waits are those that they would have if
            they ran at the same time.
        nodes: the node number of each replica, ``[replicas]``.
        waited_for: for each replica, the node whose messages it has waited for longest since the start, the
            seconds that it waited for them, and for messages of all nodes: ``[replicas, 3]``.
    """

    replica: int
    seconds: float
    calls: int
    steps: int
    spent: Array
    last_calls: Array
    last_steps: Array
    last_causes: Array
    cost: Array
    clock_error: float
    virtual: bool
    nodes: Array
    waited_for: Array

    @classmethod
    def of(cls, ledger: Ledger, calls: int, steps: int) -> Report:
        """The report of a ledger since the start of the job.

        Args:
            ledger: the replica's ledger.
            calls: how many collective calls the replica has made.
            steps: how many optimizer steps it has begun.
        """
        totals = ledger.totals()
        return cls(
            ledger.rank,
            (time.monotonic_ns() - ledger.started) / 1e9,
            calls,
            steps,
            ledger.spent() / 1e9,
            totals[:, Total.CALLS],
            totals[:, Total.STEPS],
            totals[:, Total.LAST : Total.LAST + len(CAUSES)],
            totals[:, Total.COST : Total.COST + len(CAUSES)] / 1e9,
            ledger.clock_error(),
            ledger.virtual,
            ledger.nodes,
            ledger.waited_for() / [1, 1e9, 1e9],
        )

    def since(self, before: Report) -> Report:
        """The part between an earlier report of the same job and this one."""
        return Report(
            self.replica,
            self.seconds - before.seconds,
            self.calls - before.calls,
            self.steps - before.steps,
            self.spent - before.spent,
            self.last_calls - before.last_calls,
            self.last_steps - before.last_steps,
            self.last_causes - before.last_causes,
            self.cost - before.cost,
            self.clock_error,
            self.virtual,
            self.nodes,
            self.waited_for,
        )

    @property
    def replicas(self) -> int:
        """The number of replicas."""
        return len(self.spent)

    @property
    def lost(self) -> float:
        """The share of the time that was lost by waiting for late replicas, from 0 to 1."""
        return min(float(self.cost.sum()) / max(self.seconds, 1e-9), 1.0)

    @property
    def straggler(self) -> Straggler | None:
        """The replica that caused most of the waiting; None if little was lost, or by several replicas."""
        by_replica, all_of_it = self.cost.sum(1), float(self.cost.sum())
        who = int(by_replica.argmax())
        if self.lost <= _LOST or by_replica[who] < _CAUSED * all_of_it:
            return None
        most = int(self.cost[who].argmax())
        times = int(self.last_causes[who, most])
        return Straggler(who, CAUSES[most], float(by_replica[who]), int(self.last_steps[who]), times)

    @property
    def wire(self) -> SlowWire | None:
        """The slow network that caused most of the waiting; None if little was lost, or none is known."""
        if self.spent[:, Phase.WIRE].mean() <= _LOST * self.seconds:
            return None
        late = float(self.cost[:, Phase.WIRE].sum()) * (1 - 1 / self.replicas)  # its own wait is none
        return slow_wire(self.nodes, self.waited_for, self.spent, late)

    def to_dict(self) -> dict[str, Any]:
        """The report as numbers, lists and dicts."""
        found, wire = self.straggler, self.wire
        return {
            "replicas": self.replicas,
            "seconds": self.seconds,
            "calls": self.calls,
            "steps": self.steps,
            "spent": {name: self.spent[:, i].tolist() for i, name in enumerate(PHASES)},
            "last_calls": self.last_calls.tolist(),
            "last_steps": self.last_steps.tolist(),
            "cost": {name: self.cost[:, i].tolist() for i, name in enumerate(CAUSES)},
            "lost": self.lost,
            "straggler": None if found is None else found.__dict__,
            "wire": None if wire is None else wire.__dict__,
            "clock_error": self.clock_error,
        }

    def __str__(self) -> str:
        lines = [f"{self.seconds:.1f} s, {self.steps:,} steps"]
        if self.replicas > 1:
            lines[0] += f", {self.calls:,} collective calls"
        lines.append("replica " + "".join(f"{name:>17}" for name in PHASES) + "      last in")
        last, unit = (self.last_steps, "steps") if self.steps else (self.last_calls, "calls")
        for r, row in enumerate(self.spent):
            whole = max(float(row.sum()), 1e-9)
            parts = "".join(f"{s:>9.2f} s {100 * s / whole:>3.0f} %" for s in row)
            lines.append(f"{r:>7} {parts} {last[r]:>6} {unit}")
        if self.replicas > 1:
            lines.append(self._summary())
        if self.wire is not None:
            lines.append(f"waited for {self.wire}: {self.wire.seconds:.1f} s")
        if self.clock_error:
            lines.append(f"clocks of other nodes are known to {1e6 * self.clock_error:,.0f} us")
        if self.virtual:
            lines.append("(replicas of one process take turns: what they would wait for if they did not)")
        return "\n".join(lines)

    def _summary(self) -> str:
        found = self.straggler
        lost = f"{100 * self.lost:.0f} % of the time was lost by waiting"
        if found is None:
            return f"{lost}; no single replica is the cause" if self.lost > _LOST else lost
        return f"{lost}, most of it for replica {found.replica} ({found.cause}): {found.seconds:.1f} s"

    def short(self) -> str:
        """``waits 18 % (replica 3, own code)`` for a progress bar; empty if no cause is known."""
        found = self.straggler
        if self.wire is not None and (found is None or found.cause == "wire"):
            return f"waits {100 * self.wire.seconds / self.seconds:.0f} % ({self.wire.short}, wire)"
        if found is None:
            return ""
        return f"waits {100 * self.lost:.0f} % (replica {found.replica}, {found.cause})"


def closing_words(report: Report) -> str:
    """A paragraph for the end of a job; empty unless one replica or network caused much waiting."""
    found = report.straggler
    wire = report.wire
    if (found is None and wire is not None and wire.clear) or (
        found is not None and found.cause == "wire" and wire is not None
    ):
        return _wire_words(report, wire)
    if found is None:
        return ""
    if report.virtual or report.calls < _CALLS or found.seconds < _SECONDS:
        return ""
    where = f"{found.steps:,} of {report.steps:,} steps"
    if not report.steps:
        where = f"{report.last_calls[found.replica]:,} of {report.calls:,} collective calls"
    return (
        f"distopt: {100 * report.lost:.0f} % of this job's {report.seconds:.0f} s was lost by waiting, most "
        f"of it for one replica. Replica {found.replica} came last in {where}, and cost most by "
        f"{found.cause} ({found.times:,} times); the others waited {found.seconds:.1f} s for it in all. "
        f"{_ADVICE[found.cause]}. More: distopt.report(), docs/howto/stragglers.md; DISTOPT_STRAGGLERS=0 "
        f"silences this."
    )


def _wire_words(report: Report, wire: SlowWire) -> str:
    """:func:`closing_words` for a slow network."""
    if report.calls < _CALLS or wire.seconds < _SECONDS:
        return ""
    return (
        f"distopt: {100 * wire.seconds / report.seconds:.0f} % of this job's {report.seconds:.0f} s was lost "
        f"by waiting for messages (wire), most of it for {wire}: {wire.seconds:.1f} s. Look at that "
        f"network (distoptrun --check measures it). More: distopt.report(), docs/howto/stragglers.md; "
        f"DISTOPT_STRAGGLERS=0 silences this."
    )


def recently_last(ledger: Ledger, steps: int = 100) -> str:
    """``replica 3 was last in 92 of the last 100 steps (input)``; empty unless it is mostly one replica."""
    rows = ledger.rows()
    if len(rows) < 3:
        return ""
    spent = np.diff(rows[:, :, Row.OWN : Row.OWN + Phase.WAITING], axis=0)  # [calls, replicas, causes]
    begins = np.diff(rows[:, 0, Row.STEP]) > 0
    arrivals = rows[1:, :, Row.ARRIVAL] - np.diff(rows[:, :, Row.APART], axis=0)
    chosen = np.flatnonzero(begins if begins.any() else np.ones(len(begins), bool))[-steps:]
    last = arrivals[chosen].argmax(1)
    counts = np.bincount(last, minlength=ledger.replicas)
    who = int(counts.argmax())
    if counts[who] < _CAUSED * len(chosen) or len(chosen) < min(_CALLS, steps):
        return ""
    those = spent[chosen[last == who]]
    more = those[:, who] - (those.sum(1) - those[:, who]) / (ledger.replicas - 1)
    cause = CAUSES[int(more.sum(0).argmax())]
    what = "steps" if begins.any() else "collective calls"
    return f"replica {who} was last in {counts[who]} of the last {len(chosen)} {what} ({cause})"
