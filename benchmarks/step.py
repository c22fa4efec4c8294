"""``step``: gradients ready in private arrays -> parameters updated, Adam, float32, two replicas."""

from __future__ import annotations

import gc
import statistics
from typing import Any

from benchmarks import jobs, shapes
from benchmarks.effort import Effort
from benchmarks.report import Picture, Report, Target

__all__ = ["report", "work"]

REPLICAS = 2
OURS, FLOOR = "distopt", "floor: the same bytes moved"
GLOO, NUMPY = "Gloo 25 MiB buckets + fused Adam", "Allreduce a variable + NumPy Adam"


def cases(effort: Effort) -> dict[str, shapes.Shapes]:
    """The shapes of each case."""
    if effort.tiny:
        return {
            "25 M in 50": shapes.even(5_000, 50),
            "ResNet-50": [(64, 3, 7, 7), (64,)],
            "2,000 of 64x64": [(8, 8)] * 20,
            "one of 1,000": [(1000,)],
        }
    return {
        "25 M in 50": shapes.even(25_000_000, 50),
        "ResNet-50": shapes.resnet50(),
        "2,000 of 64x64": [(64, 64)] * 2000,
        "one of 1,000": [(1000,)],
    }


def report(effort: Effort) -> Report:
    """Runs all cases in one job."""
    found = Report(
        "step", "A step of Adam, 2 replicas, float32", Picture("bars", "case", "peer", "ms", log=True)
    )
    config = {"cases": cases(effort), "rounds": effort.rounds, "seconds": effort.seconds}
    result = jobs.run("step", config, REPLICAS, effort.timeout)
    medians = {
        case: {peer: statistics.median(times) for peer, times in peers.items()}
        for case, peers in result.items()
    }
    for case, peers in result.items():
        for peer, times in peers.items():
            found.rows.append(
                {
                    "case": case,
                    "peer": peer,
                    "ms": 1e3 * medians[case][peer],
                    "x floor": medians[case][peer] / medians[case][FLOOR],
                    "x distopt": medians[case][peer] / medians[case][OURS],
                    "rounds_ms": [1e3 * t for t in times],
                }
            )
    found.targets = targets(medians, len(config["cases"]["2,000 of 64x64"]))
    return found


def targets(medians: dict[str, dict[str, float]], many: int) -> list[Target]:
    """The figures to reach; ``many`` variables are in the case of many."""
    big, net = medians["25 M in 50"], medians["ResNet-50"]
    small = medians["2,000 of 64x64"]
    return [
        Target("25 M: time over the floor", big[OURS] / big[FLOOR], 1.2, " x"),
        Target("25 M: share of Gloo's time", big[OURS] / big[GLOO], 1 / 5, " x"),
        Target("25 M: share of MPI + NumPy's time", big[OURS] / big[NUMPY], 1 / 15, " x"),
        Target("ResNet-50: time over the floor", net[OURS] / net[FLOOR], 1.4, " x"),
        Target(
            "2,000 variables: over the floor, each", 1e6 * (small[OURS] - small[FLOOR]) / many, 3.0, " us"
        ),
        Target("one small variable: a step", 1e6 * medians["one of 1,000"][OURS], 60.0, " us"),
    ]


def work(config: dict[str, Any]) -> dict[str, Any] | None:
    """One replica's part."""
    from benchmarks.clock import turns, world
    from benchmarks.gloo import process_group
    from benchmarks.peers import Distopt, GlooAdam, MPINumPyAdam, floor_of

    everyone = world()
    result = {}
    with process_group(everyone):
        for case, sizes in config["cases"].items():
            peers = {
                OURS: Distopt(sizes, everyone.rank),
                FLOOR: floor_of(everyone, shapes.total(sizes)),
                GLOO: GlooAdam(sizes, everyone.rank),
                NUMPY: MPINumPyAdam(sizes, everyone),
            }
            result[case] = turns(everyone, peers, config["rounds"], config["seconds"])
            del peers
            gc.collect()
    return result if everyone.rank == 0 else None
