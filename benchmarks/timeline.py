"""``timeline``: a step of Adam while its spans are recorded, beside the same step without, 2 replicas."""

from __future__ import annotations

import os
import statistics
from typing import Any

from benchmarks import jobs, shapes
from benchmarks.effort import Effort
from benchmarks.report import Picture, Report, Target

__all__ = ["report", "work"]

CASES: dict[str, shapes.Shapes] = {
    "25 M in 50 variables": shapes.even(25_000_000, 50),
    "1 M in 10 variables": shapes.even(1_000_000, 10),
}
_WAYS = {"without": False, "timeline": True}
#: A turn is short, and there are many: both ways see the machine in the same moods.
_TURNS = 6


def report(effort: Effort) -> Report:
    """Runs a job for each case; both ways take turns."""
    picture = Picture("bars", "case", "way", "ms")
    found = Report("timeline", "A step of Adam, 2 replicas, while a timeline is recorded", picture)
    for case, sizes in CASES.items():
        few = [(1000,)] * 4 if effort.tiny else sizes
        config = {"shapes": few, "rounds": _TURNS * effort.rounds, "seconds": effort.seconds / _TURNS}
        times: dict[str, list[float]] = jobs.run("timeline", config, 2, effort.timeout)
        ratios = [b / a for a, b in zip(times["without"], times["timeline"], strict=True)]
        ratio = statistics.median(ratios)
        for way, seconds in times.items():
            median = statistics.median(seconds)
            row = {"case": case, "way": way, "ms": median * 1e3, "x without": ratio if _WAYS[way] else 1.0}
            found.rows.append({**row, "rounds_ms": [s * 1e3 for s in seconds]})
        found.targets.append(Target(f"{case}: a step while it is recorded", ratio, 1.03, " x"))
    return found


class _Recorded:
    """distopt's step, recorded or not.

    Args:
        peer: makes the steps.
        wanted: whether spans are.
    """

    def __init__(self, peer: Any, wanted: bool) -> None:
        from distopt.distribute import require_replica_context

        self._peer, self._wanted = peer, wanted
        self._spans = require_replica_context("the benchmark").world.spans

    def prepare(self) -> None:
        """Switches the recorder."""
        self._spans.armed = self._spans.on = self._wanted

    def step(self) -> None:
        """One step."""
        self._peer.step()


def work(config: dict[str, Any]) -> dict[str, list[float]] | None:
    """One replica's part: the seconds of a step of each way, by rounds."""
    os.environ["DISTOPT_LAUNCH_WISHES"] = "telemetry timeline=1:1000000000"
    from benchmarks.clock import turns, world
    from benchmarks.peers import Distopt

    everyone = world()
    peer = Distopt([tuple(shape) for shape in config["shapes"]], everyone.rank)
    peers = {way: _Recorded(peer, wanted) for way, wanted in _WAYS.items()}
    result = turns(everyone, peers, config["rounds"], config["seconds"])
    return result if everyone.rank == 0 else None
