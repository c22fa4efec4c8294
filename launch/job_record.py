"""JobRecord: data about a job from its telemetry and output, for the report and the metrics file."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from .series import Heat, Series

#: Limits, so that the record stays small: kinds of warnings and number of checkpoints, characters of a text;
#: metrics, and pipelines.
_MOST, _LONGEST = 200, 500
_MOST_METRICS, _MOST_PIPELINES = 32, 8
#: The exceptions that a malformed message can raise.
_MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
#: Matches a line with a warning of Python or distopt.
_WARNING = re.compile(r"^(?:.*: \w*Warning: |distopt: |WARNING\b)")
#: Matches the numbers in a warning. Warnings that differ only in numbers are of the same kind.
_NUMBERS = re.compile(r"\d+(?:\.\d+)?")
#: The phases of a replica's time, in the order in which the report stacks them.
PHASES = ("own code", "input", "saving", "waiting", "sum and update", "wire")


@dataclass
class Attempt:
    """One start of the job: when it began, in seconds since the first start, and how it ended."""

    begin: float
    outcome: str = ""


@dataclass
class Warned:
    """The warnings of one kind: time, replica and text of the first one, and their number."""

    at: float
    replica: int
    text: str
    count: int = 1


@dataclass
class Usage:
    """The use of memory and CPU by one process over time.

    Attributes:
        rss: resident bytes.
        cpu: busy cores.
        resident: the last sample of resident bytes.
        busy: the last sample of CPU time, in seconds since the start of the process.
        sampled: the time of the last sample; None before the first one of an attempt.
    """

    rss: Series = field(default_factory=Series)
    cpu: Series = field(default_factory=Series)
    resident: float = 0.0
    busy: float = 0.0
    sampled: float | None = None


class JobRecord:
    """The data about a job, over all its attempts.

    Args:
        program: the name of the program.
        command: the whole command line.
        processes: the number of processes.
        clock: returns the time in seconds since the epoch.
    """

    def __init__(
        self, program: str, command: str, processes: int, clock: Callable[[], float] = time.time
    ) -> None:
        self.program, self.command, self.processes = program, command, processes
        self._clock = clock
        self.started, self.ended = clock(), 0.0
        self.replicas = processes
        self.attempts: list[Attempt] = []
        self.code: int | None = None
        self.running = False
        self.hosts: dict[int, tuple[str, int, str]] = {}
        self.usage: dict[int, Usage] = {}
        self.metrics: dict[str, Series] = {}
        self.pipelines: list[str] = []
        self.warnings: dict[str, Warned] = {}
        self.checkpoints: list[dict[str, Any]] = []
        self.saved = 0  # checkpoints of all attempts
        self.latest: dict[str, float] = {}  # metrics
        self.steps, self.finding = 0, ""
        self.rate = Series()
        self.totals: dict[int, list[float]] = {}
        self._earlier: dict[int, list[float]] = {}  # totals of the attempts before
        self._stepped: tuple[float, int] | None = None
        self.heat: Heat | None = None

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return self._clock() - self.started

    @property
    def stepping(self) -> float:
        """Seconds from the first step to the last one, summed over attempts, of the slowest replica."""
        return max(map(sum, self.totals.values()), default=0.0)

    # -- from the launcher
    def begin(self) -> None:
        """Starts an attempt."""
        self.running, self.ended = True, 0.0
        self.attempts.append(Attempt(self.now))
        self._earlier = {replica: list(row) for replica, row in self.totals.items()}
        self._stepped = None
        self.pipelines.clear()
        for used in self.usage.values():
            used.sampled = None

    def end(self, code: int, outcome: str) -> None:
        """Ends an attempt, with its exit code and a text that says how it ended."""
        self.code, self.ended, self.running = code, self._clock(), False
        if self.attempts:
            self.attempts[-1].outcome = outcome or f"exit code {code}"

    def warn(self, replica: int, text: str) -> None:
        """Records a warning of a replica, or of the launcher (-1)."""
        kind = _NUMBERS.sub("0", text[:_LONGEST])
        if kind in self.warnings:
            self.warnings[kind].count += 1
        elif len(self.warnings) < _MOST:
            self.warnings[kind] = Warned(self.now, replica, text[:_LONGEST])

    def line(self, replica: int, text: bytes) -> None:
        """Records a line of a replica's standard error, if it is a warning."""
        if b"arning" in text or text.startswith((b"distopt: ", b"WARNING")):
            shown = text[:_LONGEST].decode(errors="replace").strip()
            if _WARNING.match(shown):
                self.warn(replica, shown)

    # -- from telemetry
    def take(self, rank: int, message: Mapping[str, Any]) -> None:
        """Records a message of a process. Malformed messages are ignored."""
        takers: dict[str, Callable[[int, Mapping[str, Any]], None]] = {
            "host": self._host,
            "usage": self._usage,
            "steps": self._steps,
            "finding": self._finding,
            "metrics": self._metrics,
            "pipeline": self._pipeline,
            "checkpoint": self._checkpoint,
        }
        taker = takers.get(str(message.get("kind")))
        if taker is not None:
            with suppress(*_MALFORMED):
                taker(rank, message)

    def _host(self, rank: int, message: Mapping[str, Any]) -> None:
        cores, threads = int(message["cores"]), str(message["threads"])[:20]
        self.hosts[rank] = (str(message["host"])[:200], cores, threads)

    def _usage(self, rank: int, message: Mapping[str, Any]) -> None:
        rss, seconds, now = _number(message["rss"]), _number(message["cpu"]), self.now
        used = self.usage.setdefault(rank, Usage())
        used.rss.add(now, rss)
        if used.sampled is not None and now > used.sampled:
            used.cpu.add(now, max(0.0, seconds - used.busy) / (now - used.sampled))
        used.sampled, used.resident, used.busy = now, rss, seconds

    def _steps(self, rank: int, message: Mapping[str, Any]) -> None:
        """Records the totals and arrival times of replicas over some steps.

        See `ledger_feed` for the message.
        """
        replicas, first, last = int(message["replicas"]), int(message["first"]), int(message["last"])
        if not 0 < replicas <= 1 << 20 or (self.heat is None and replicas < self.processes):
            return
        offsets = [(int(replica), _number(offset)) for replica, offset in message["offsets"]]
        totals = {}
        for replica, row in message["totals"]:
            before = self._earlier.get(int(replica), [0.0] * len(PHASES))
            pairs = zip(before, map(_number, row), strict=True)
            totals[int(replica)] = [a + max(0.0, b) for a, b in pairs]
        if self.heat is None:
            self.replicas, self.heat = replicas, Heat(replicas)
        self.totals |= totals
        for replica, offset in offsets:
            self.heat.add(first, last, replica, offset)
        if message.get("counts"):
            self._count(int(message["counts"]))

    def _count(self, steps: int) -> None:
        """Records that ``steps`` steps were made since the last message."""
        now = self.now
        self.steps += steps
        if self._stepped is not None and now > self._stepped[0]:
            self.rate.add(now, steps / (now - self._stepped[0]))
        self._stepped = (now, steps)

    def _finding(self, rank: int, message: Mapping[str, Any]) -> None:
        self.finding = str(message["text"])[:2000]

    def _metrics(self, rank: int, message: Mapping[str, Any]) -> None:
        step = int(message["step"])
        for name, value in message["values"].items():
            if name in self.metrics or len(self.metrics) < _MOST_METRICS:
                series = self.metrics.setdefault(str(name)[:100], Series())
                if isfinite(float(value)):
                    series.add(step, float(value))
                    self.latest[str(name)[:100]] = float(value)

    def _pipeline(self, rank: int, message: Mapping[str, Any]) -> None:
        text = str(message["text"])
        if text not in self.pipelines and len(self.pipelines) < _MOST_PIPELINES:
            self.pipelines.append(text)

    def _checkpoint(self, rank: int, message: Mapping[str, Any]) -> None:
        taken = {
            "at": self.now,
            "step": int(message["step"]),
            "seconds": _number(message["seconds"]),
            "path": str(message["path"])[:_LONGEST],
        }
        self.saved += 1
        self.checkpoints = [*self.checkpoints[1 - _MOST :], taken]


def _number(value: Any) -> float:
    """Returns ``value`` as a float.

    Raises:
        ValueError: it is not a finite number.
    """
    found = float(value)
    if not isfinite(found):
        raise ValueError(f"{value!r} is not finite")
    return found
