"""``tricks``: a step with and without each thing that is there for speed only, 2 replicas."""

from __future__ import annotations

import os
import statistics
from typing import Any

from benchmarks import jobs, shapes
from benchmarks.effort import Effort
from benchmarks.report import Picture, Report

__all__ = ["report", "work"]

#: By what is measured: the variables, and for each way the environment that asks for it.
CASES: dict[str, tuple[shapes.Shapes, dict[str, dict[str, str]]]] = {
    "2,000 variables of 64x64": (
        [(64, 64)] * 2000,
        {"array structs": {}, "without": {"DISTOPT_ARRAY_SPECS": "0"}},
    ),
    "large pages": (
        shapes.even(25_000_000, 50),
        {"large pages": {}, "without": {"DISTOPT_LARGE_PAGES": "0"}},
    ),
    "stores": (
        shapes.even(25_000_000, 50),
        {
            "auto": {},
            "ordinary": {"DISTOPT_STORES": "ordinary"},
            "streaming": {"DISTOPT_STORES": "streaming"},
        },
    ),
}


def report(effort: Effort) -> Report:
    """Runs a job for each case; its ways take turns."""
    picture = Picture("bars", "case", "way", "ms")
    found = Report("tricks", "A step of Adam, 2 replicas, with and without", picture)
    for case, (sizes, ways) in CASES.items():
        few = [shape[:1] for shape in sizes[:50]] if effort.tiny else sizes
        config = {"shapes": few, "ways": ways, "rounds": effort.rounds, "seconds": effort.seconds}
        times: dict[str, list[float]] = jobs.run("tricks", config, 2, effort.timeout)
        first, *_ = (statistics.median(seconds) for seconds in times.values())
        for way, seconds in times.items():
            median = statistics.median(seconds)
            row = {"case": case, "way": way, "ms": median * 1e3, "x the first": median / first}
            found.rows.append({**row, "rounds_ms": [s * 1e3 for s in seconds]})
    return found


class _Switched:
    """distopt's step in an environment of its own.

    Args:
        sizes: of the variables.
        rank: this replica's number.
        environ: what is set while it takes its turn; what it makes at its first step stays.
    """

    def __init__(self, sizes: shapes.Shapes, rank: int, environ: dict[str, str]) -> None:
        from benchmarks.peers import Distopt

        self._peer, self._environ = Distopt(sizes, rank), environ

    def prepare(self) -> None:
        """Sets the environment."""
        for name in [name for name in os.environ if name in _NAMES]:
            del os.environ[name]
        os.environ.update(self._environ)

    def step(self) -> None:
        """One step."""
        self._peer.step()


_NAMES = {name for _, ways in CASES.values() for environ in ways.values() for name in environ}


def work(config: dict[str, Any]) -> dict[str, list[float]] | None:
    """One replica's part: the seconds of a step of each way, by rounds."""
    from benchmarks.clock import turns, world

    everyone = world()
    sizes = [tuple(shape) for shape in config["shapes"]]
    peers = {way: _Switched(sizes, everyone.rank, environ) for way, environ in config["ways"].items()}
    result = turns(everyone, peers, config["rounds"], config["seconds"])
    return result if everyone.rank == 0 else None
