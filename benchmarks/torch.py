"""``torch``: training steps of PyTorch models by ``distopt.torch``, beside PyTorch DDP; two replicas.

The bare step is forward and backward, by both replicas at the same time; what a step takes longer is the
overhead of summing and updating. Then the memory of a node, and startup.
"""

from __future__ import annotations

import gc
import statistics
from typing import Any

from benchmarks import jobs, torch_memory, torch_startup
from benchmarks.effort import Effort
from benchmarks.report import Picture, Report, Row, Target
from benchmarks.torch_peers import BARE, DDP, OURS, PEERS

__all__ = ["report", "targets", "work"]

REPLICAS = 2
#: How many times faster than DDP the step of a model has to be.
FASTER = {"MLP, batch 64": 2.0}
#: How much of DDP's overhead ours may take, wherever DDP's is more than that share of its step.
SHARE, COUNTS_FROM = 0.35, 0.15


def report(effort: Effort) -> Report:
    """Runs all models in one job; memory and startup in others."""
    found = Report(
        "torch",
        "A training step of PyTorch models, 2 replicas, float32",
        Picture("bars", "case", "peer", "ms", log=True),
    )
    config = {"tiny": effort.tiny, "rounds": effort.rounds, "seconds": effort.seconds}
    result = jobs.run("torch", config, REPLICAS, effort.timeout)
    memory = torch_memory.measured(effort)
    for case, peers in result.items():
        rows = _rows(case, peers)
        found.targets += targets(case, {peer: row["ms"] for peer, row in rows.items()})
        if case == torch_memory.CASE:
            for peer, row in rows.items():
                row["MB"] = memory[peer]["MB"]
        found.rows += rows.values()
    found.targets.append(torch_memory.target(memory))
    found.rows += torch_startup.measured(effort)
    found.notes += [
        "bare: forward and backward of both replicas at once, nothing summed or updated. "
        "DDP: gradients lie in the buckets, no buffers are sent, optimizers are fused, but for SparseAdam.",
        torch_memory.note(memory),
        "startup: to the end of the first step, beside torch imported by as many processes.",
    ]
    return found


def _rows(case: str, peers: dict[str, list[float]]) -> dict[str, Row]:
    medians = {peer: 1e3 * statistics.median(times) for peer, times in peers.items()}
    over = {peer: milliseconds - medians[BARE] for peer, milliseconds in medians.items()}
    return {
        peer: {
            "case": case,
            "peer": peer,
            "ms": medians[peer],
            "DDP / it": medians[DDP] / medians[peer],
            "over bare ms": over[peer],
            "of DDP's": over[peer] / over[DDP],
            "rounds_ms": [1e3 * t for t in times],
        }
        for peer, times in peers.items()
    }


def targets(case: str, ms: dict[str, float]) -> list[Target]:
    """The figures to reach by the steps of a model, from each peer's time."""
    found = []
    if case in FASTER:
        found.append(Target(f"{case}: share of DDP's time", ms[OURS] / ms[DDP], 1 / FASTER[case], " x"))
    overhead = ms[DDP] - ms[BARE]
    if overhead > COUNTS_FROM * ms[DDP]:
        found.append(
            Target(f"{case}: share of DDP's overhead", (ms[OURS] - ms[BARE]) / overhead, SHARE, " x")
        )
    return found


def work(config: dict[str, Any]) -> dict[str, Any] | None:
    """One replica's part."""
    from benchmarks.clock import turns, world
    from benchmarks.gloo import process_group
    from benchmarks.torch_models import CASES, TINY

    everyone = world()
    result = {}
    with process_group(everyone):
        for name, case in (TINY if config["tiny"] else CASES).items():
            peers = {peer: make(case, everyone.rank) for peer, make in PEERS.items()}
            result[name] = turns(everyone, peers, config["rounds"], config["seconds"])
            del peers
            gc.collect()
    return result if everyone.rank == 0 else None
