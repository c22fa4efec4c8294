"""``mlp``: whole training steps (forward, backward, sum, update) of MLPs beside PyTorch DDP."""

from __future__ import annotations

import gc
import statistics
from typing import Any

from benchmarks import jobs
from benchmarks.effort import Effort
from benchmarks.report import Picture, Report, Target

__all__ = ["report", "work"]

REPLICAS = 2
OURS, DDP = "distopt", "PyTorch DDP + fused Adam"
#: How many times faster than DDP it has to be.
FASTER = (5.0, 1.7, 1.5)


def report(effort: Effort) -> Report:
    """Runs all sizes in one job."""
    found = Report(
        "mlp", "A training step of an MLP, Adam, 2 replicas", Picture("bars", "model", "peer", "ms", log=True)
    )
    config = {"tiny": effort.tiny, "rounds": effort.rounds, "seconds": effort.seconds}
    result = jobs.run("mlp", config, REPLICAS, effort.timeout)
    for (name, peers), faster in zip(result.items(), FASTER, strict=True):
        medians = {peer: statistics.median(times) for peer, times in peers.items()}
        for peer, times in peers.items():
            found.rows.append(
                {
                    "model": name,
                    "peer": peer,
                    "ms": 1e3 * medians[peer],
                    "x distopt": medians[peer] / medians[OURS],
                    "rounds_ms": [1e3 * t for t in times],
                }
            )
        found.targets.append(
            Target(f"{name}: share of DDP's time", medians[OURS] / medians[DDP], 1 / faster, " x")
        )
    return found


def work(config: dict[str, Any]) -> dict[str, Any] | None:
    """One replica's part."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    import distopt as tf
    from benchmarks import models
    from benchmarks.clock import turns, world
    from benchmarks.gloo import process_group

    everyone = world()
    result = {}
    with process_group(everyone):
        for name, (widths, batch) in models.MLPS.items():
            if config["tiny"]:
                widths, batch = [min(width, 16) for width in widths], 4
            x, y = models.classes(widths[:1], batch, seed=everyone.rank)
            other = DistributedDataParallel(models.torch_mlp(widths))
            adam = torch.optim.Adam(other.parameters(), fused=True)
            peers = {
                OURS: models.Training(models.keras_mlp(widths), x, y, everyone.size, tf.optimizers.Adam()),
                DDP: models.TorchTraining(other, [(x, y)], [adam]),
            }
            result[name] = turns(everyone, peers, config["rounds"], config["seconds"])
            del peers, other, adam
            gc.collect()
    return result if everyone.rank == 0 else None
