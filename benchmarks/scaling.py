"""``scaling``: the step over numbers of replicas and of parameters."""

from __future__ import annotations

import gc
import math
import statistics
from pathlib import Path
from typing import Any

from benchmarks import jobs, shapes
from benchmarks.effort import Effort
from benchmarks.report import Picture, Report, Target

__all__ = ["report", "slope", "work"]

OURS, FLOOR = "distopt", "floor"


def sizes(effort: Effort) -> list[int]:
    """Numbers of parameters."""
    if effort.tiny:
        return [10_000, 30_000]
    largest = [30_000_000, 100_000_000] if effort.full else []
    return [1_000_000, 3_000_000, 10_000_000, *largest]


def report(effort: Effort) -> Report:
    """Runs one job for each number of replicas."""
    found = Report(
        "scaling",
        "A step of Adam, float32, replicas of one node",
        Picture("lines", "parameters", "series", "ms"),
    )
    for replicas in (1, 2) if effort.tiny else (1, 2, 4, 8):
        config = {"sizes": [], "rounds": effort.rounds, "seconds": effort.seconds}
        for parameters in sizes(effort):
            if _bytes_needed(parameters, replicas) < _bytes_free():
                config["sizes"].append(parameters)
            else:
                found.notes.append(f"{parameters:,} parameters on {replicas} replicas: no room in memory")
        result = jobs.run("scaling", config, replicas, effort.timeout)
        _add(found, replicas, result)
    found.notes.append("More replicas than cores take turns; what they share is the memory's speed.")
    return found


def _add(found: Report, replicas: int, result: dict[str, dict[str, list[float]]]) -> None:
    points = []
    for parameters, peers in result.items():
        medians = {peer: statistics.median(times) for peer, times in peers.items()}
        points.append((int(parameters), medians[OURS]))
        for peer, times in peers.items():
            found.rows.append(
                {
                    "replicas": replicas,
                    "parameters": int(parameters),
                    "peer": peer,
                    "ms": 1e3 * medians[peer],
                    "ns a parameter": 1e9 * medians[peer] / int(parameters),
                    "series": f"{peer}, {replicas} replicas",
                    "rounds_ms": [1e3 * t for t in times],
                }
            )
    # Linear in the parameters once they no longer fit into the caches.
    found.targets.append(Target(f"{replicas} replicas: log-log slope", slope(points), 1.1))


def slope(points: list[tuple[int, float]]) -> float:
    """The least-squares slope of the points on logarithmic axes; 1 is linear."""
    xs, ys = [math.log(x) for x, _ in points], [math.log(y) for _, y in points]
    middle_x, middle_y = statistics.fmean(xs), statistics.fmean(ys)
    return sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True)) / sum(
        (x - middle_x) ** 2 for x in xs
    )


def _bytes_needed(parameters: int, replicas: int) -> float:
    return 2.2 * 4 * parameters * (replicas + 3)


def _bytes_free() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def work(config: dict[str, Any]) -> dict[str, Any] | None:
    """One replica's part."""
    from benchmarks.clock import turns, world
    from benchmarks.peers import Distopt, floor_of

    everyone = world()
    result = {}
    for parameters in config["sizes"]:
        layout = shapes.even(parameters, 50)
        peers = {OURS: Distopt(layout, everyone.rank), FLOOR: floor_of(everyone, parameters)}
        result[parameters] = turns(everyone, peers, config["rounds"], config["seconds"])
        del peers
        gc.collect()
    return result if everyone.rank == 0 else None
