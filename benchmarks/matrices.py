"""``matrices``: the steps of Muon and Adafactor at 1 and 2 replicas, beside PyTorch's."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from typing import Any

from benchmarks import jobs
from benchmarks.clock import World
from benchmarks.effort import Effort
from benchmarks.report import Picture, Report, Target

__all__ = ["report", "work"]

OURS, THEIRS = "distopt", "PyTorch"
#: By optimizer: how many square matrices, of how many rows.
CASES = {"Muon": (8, 512), "Adafactor": (8, 1024)}
TINY = {"Muon": (2, 16), "Adafactor": (2, 16)}


def report(effort: Effort) -> Report:
    """Runs a job for each number of replicas."""
    found = Report(
        "matrices",
        "A step of optimizers that need whole matrices: sum and update, one thread a replica",
        Picture("bars", "optimizer", "peer", "ms"),
    )
    config = {
        "cases": TINY if effort.tiny else CASES,
        "rounds": min(effort.rounds, 3),
        "seconds": effort.seconds,
    }
    alone: dict[tuple[str, str], float] = {}
    for replicas in (1, 2):
        for optimizer, peers in jobs.run("matrices", config, replicas, effort.timeout).items():
            medians = {peer: statistics.median(times) for peer, times in peers.items()}
            for peer, seconds in medians.items():
                alone.setdefault((optimizer, peer), seconds)
                found.rows.append(
                    {
                        "optimizer": f"{optimizer}, {replicas}",
                        "peer": peer,
                        "ms": 1e3 * seconds,
                        "x faster than 1": alone[optimizer, peer] / seconds,
                        "x distopt": seconds / medians[OURS],
                        "rounds_ms": [1e3 * t for t in peers[peer]],
                    }
                )
            if optimizer == "Muon" and replicas == 2:
                share = medians[OURS] / alone[optimizer, OURS]
                found.targets.append(Target("a step of Muon at 2 replicas, of that at 1", share, 1 / 1.7))
    found.notes.append(
        "Matrices: 8 of 512 x 512 for Muon, 8 of 1024 x 1024 for Adafactor. PyTorch sums by Gloo, then each "
        "replica updates everything; the bfloat16 of its Muon, far slower on processors that have "
        "no instructions for it, is replaced by float32, in which distopt computes."
    )
    return found


def work(config: dict[str, Any]) -> dict[str, Any] | None:
    """One replica's part."""
    from benchmarks.clock import turns, world
    from benchmarks.gloo import process_group
    from benchmarks.peers import Distopt

    everyone = world()
    result = {}
    with process_group(everyone):
        for name, (count, rows) in config["cases"].items():
            shapes = [(rows, rows)] * count
            peers: dict[str, Any] = {
                OURS: Distopt(shapes, everyone.rank, lambda n=name: _ours(n)),
                THEIRS: Torch(shapes, everyone, name),
            }
            result[name] = turns(everyone, peers, config["rounds"], config["seconds"])
            del peers
            gc.collect()
    return result if everyone.rank == 0 else None


def _ours(name: str) -> Any:
    import distopt as tf

    return getattr(tf.optimizers, name)()


class Torch:
    """Gloo's sum of all gradients in one bucket, then PyTorch's optimizer, on each replica."""

    def __init__(self, shapes: list[tuple[int, int]], everyone: World, name: str) -> None:
        import torch

        generator = torch.Generator().manual_seed(everyone.rank)
        self._parameters = [torch.nn.Parameter(torch.full(shape, 0.1)) for shape in shapes]
        self._bucket = torch.randn(sum(p.numel() for p in self._parameters), generator=generator)
        start = 0
        for parameter in self._parameters:
            end = start + parameter.numel()
            parameter.grad = self._bucket[start:end].view_as(parameter)
            start = end
        self._optimizer = getattr(torch.optim, name)(self._parameters)
        self._several = everyone.size > 1

    def prepare(self) -> None:
        """Nothing: a sum of sums is as large as need be."""
        self._bucket.clamp_(-1, 1)

    def step(self) -> None:
        """One step."""
        import torch
        import torch.distributed as dist

        if self._several:
            dist.all_reduce(self._bucket)
        narrow: Callable[..., Any] = torch.Tensor.bfloat16
        torch.Tensor.bfloat16 = lambda x: x.float().clone()  # type: ignore[method-assign]
        try:
            self._optimizer.step()
        finally:
            torch.Tensor.bfloat16 = narrow  # type: ignore[method-assign]
