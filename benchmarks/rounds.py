"""``rounds``: LocalSGD and DiLoCo over two hosts at 1 Gbit/s, beside a step that exchanges gradients."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks import jobs, shapes
from benchmarks.effort import Effort
from benchmarks.namespaces import Wire, wire
from benchmarks.report import Picture, Report, Target

__all__ = ["report", "work"]

HOSTS, EVERY = 2, 20
EXACT, LOCAL, DILOCO = "Adam", f"LocalSGD(Adam, every={EVERY})", f"DiLoCo(Adam, every={EVERY})"


def report(effort: Effort) -> Report:
    """Sets the hosts up and runs a job for one and for two replicas a host."""
    parameters = 40_000 if effort.tiny else 5_800_000
    found = Report(
        "rounds",
        f"A step over two hosts at 1 Gbit/s, {parameters:,} parameters, on average over a round",
        Picture("bars", "replicas a host", "optimizer", "x exact"),
    )
    with wire() as hosts:
        for replicas in (1, 2):
            _measure(found, hosts, replicas, parameters, effort)
    return found


def _measure(found: Report, hosts: Wire, replicas: int, parameters: int, effort: Effort) -> None:
    config = {
        "shapes": shapes.even(parameters, 20),
        "rounds": min(effort.rounds, 3) if not effort.full else effort.rounds,
        "seconds": effort.seconds,
    }
    times = jobs.run("rounds", config, None, effort.timeout, hosts.env, hosts.prefix(HOSTS, replicas))
    seconds = {
        name: statistics.median(each) / (1 if name == EXACT else EVERY) for name, each in times.items()
    }
    for name, one in seconds.items():
        row = {"replicas a host": replicas, "optimizer": name, "ms": 1e3 * one}
        found.rows.append(
            {**row, "x exact": one / seconds[EXACT], "rounds_ms": [1e3 * t for t in times[name]]}
        )
    words = f"{replicas} a host: DiLoCo over exact"
    found.targets.append(Target(words, seconds[DILOCO] / seconds[EXACT], 0.08, " x"))


def work(config: dict[str, Any]) -> dict[str, Any] | None:
    """One replica's part."""
    from benchmarks.clock import turns, world
    from benchmarks.peers import Distopt
    from distopt.optimizers import Adam, DiLoCo, LocalSGD

    class Round(Distopt):
        """Whole rounds."""

        def step(self) -> None:
            """All steps of a round; the last one exchanges."""
            for _ in range(EVERY):
                super().step()

    def inner() -> Adam:
        return Adam(1e-3, gradient_aggregator="mean")

    everyone = world()
    peers: dict[str, Any] = {
        EXACT: Distopt(config["shapes"], everyone.rank, inner),
        LOCAL: Round(config["shapes"], everyone.rank, lambda: LocalSGD(inner(), every=EVERY)),
        DILOCO: Round(config["shapes"], everyone.rank, lambda: DiLoCo(inner(), every=EVERY)),
    }
    found = turns(everyone, peers, config["rounds"], config["seconds"])
    return found if everyone.rank == 0 else None
