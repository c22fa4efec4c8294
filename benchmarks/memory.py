"""``memory``: bytes a node beside PyTorch DDP; pages that are shared count once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import jobs, shapes
from benchmarks.effort import Effort
from benchmarks.report import Picture, Report, Target

__all__ = ["report", "work"]

OURS, DDP = "distopt", "PyTorch DDP + fused Adam"
_STEPS = 3


def report(effort: Effort) -> Report:
    """Runs a job for each number of replicas and each peer."""
    parameters = 2_000_000 if effort.tiny else 25_000_000
    found = Report(
        "memory",
        f"Memory of a node for {parameters:,} parameters, Adam, float32, interpreter not counted",
        Picture("bars", "replicas", "peer", "bytes a parameter"),
    )
    for replicas in (1, 2) if effort.tiny else (1, 2, 4, 8):
        for peer in (OURS, DDP):
            config = {"peer": peer, "shapes": shapes.even(parameters, 50)}
            before, after = jobs.run("memory", config, replicas, effort.timeout)
            each = (after - before) / parameters
            row = {"replicas": replicas, "peer": peer, "bytes a parameter": each}
            row |= {"MB": (after - before) / 1e6, "MB with the interpreters": after / 1e6}
            if peer == OURS:
                row["expected bytes"] = expected = (1 + replicas + 2) * 4
                name = f"{replicas} replicas: of (1 + N + 2) x 4 bytes"
                found.targets.append(Target(name, each / expected, 1.05, " x"))
            found.rows.append(row)
    found.notes.append(
        "Proportional set sizes of all replicas, after a step less before the parameters were made "
        "(all modules loaded, kernels compiled)."
    )
    return found


def work(config: dict[str, Any]) -> list[int] | None:
    """One replica's part: the node's bytes before and after."""
    from benchmarks.clock import world

    everyone = world()
    return (_distopt if config["peer"] == OURS else _ddp)(everyone, config["shapes"])


def _distopt(everyone: Any, sizes: shapes.Shapes) -> list[int] | None:
    from benchmarks.peers import Distopt

    Distopt([(1000,)], everyone.rank).step()
    before = node_bytes(everyone)
    peer = Distopt(sizes, everyone.rank)
    for _ in range(_STEPS):
        peer.step()
    after = node_bytes(everyone)
    return [before, after] if everyone.rank == 0 else None


def _ddp(everyone: Any, sizes: shapes.Shapes) -> list[int] | None:
    from benchmarks.gloo import process_group

    with process_group(everyone):
        _train_ddp([(1000,)])
        before = node_bytes(everyone)
        kept = _train_ddp(sizes)
        after = node_bytes(everyone)
        del kept
    return [before, after] if everyone.rank == 0 else None


def _train_ddp(sizes: shapes.Shapes) -> Any:
    """Some steps of DDP at its leanest, the gradients lying in the buckets."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    class Sum(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = torch.nn.ParameterList(torch.full(tuple(shape), 0.1) for shape in sizes)

        def forward(self, x: Any) -> Any:
            return sum((part * x).sum() for part in self.parts)

    model = DistributedDataParallel(Sum(), gradient_as_bucket_view=True)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        model(torch.ones(())).backward()
        optimizer.step()
    return model, optimizer


def node_bytes(everyone: Any) -> int:
    """The proportional set sizes of all replicas together, at the same moment."""
    import gc

    gc.collect()
    everyone.barrier()
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    own = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    everyone.barrier()
    return sum(everyone.comm.allgather(own)) if everyone.comm is not None else own
