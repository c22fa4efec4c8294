"""The memory of a node that trains a PyTorch model with Adam; pages that are shared count once.

N replicas that only compute gradients (bare) have parameters and gradients of their own: 2 N times the
parameters' bytes. By ``distopt.torch`` a node has the parameters once, N gradients, and each slot once:
1 + N + slots times. So ours less bare should be (1 + slots - N) times the parameters' bytes; activations,
which both have, fall out. Free memory that the C library keeps is given back before it is measured: it
depends on the order in which pieces come and go. DDP has N (2 + slots) times.
"""

from __future__ import annotations

import ctypes
from typing import Any

from benchmarks import jobs
from benchmarks.effort import Effort
from benchmarks.report import Target
from benchmarks.torch_peers import BARE, OURS, PEERS

__all__ = ["CASE", "measured", "note", "target", "work"]

CASE = "MLP, batch 64"
REPLICAS, SLOTS = 2, 2
_STEPS = 3


def measured(effort: Effort) -> dict[str, dict[str, float]]:
    """Runs a job for each peer; its megabytes a node, and those over bare."""
    found = {}
    for peer in PEERS:
        config = {"tiny": effort.tiny, "peer": peer}
        before, after, parameters = jobs.run("torch_memory", config, REPLICAS, effort.timeout)
        found[peer] = {"MB": (after - before) / 1e6, "parameters MB": parameters / 1e6}
    return {peer: {**row, "MB over bare": row["MB"] - found[BARE]["MB"]} for peer, row in found.items()}


def target(found: dict[str, dict[str, float]]) -> Target:
    """Ours over bare and what bare has, as a share of what a node should have."""
    ours = found[OURS]
    times = ours["MB over bare"] / ours["parameters MB"] + 2 * REPLICAS
    return Target(f"{CASE}: memory, of (1 + N + 2) x parameters", times / (1 + REPLICAS + SLOTS), 1.05, " x")


def note(found: dict[str, dict[str, float]]) -> str:
    """The figures behind the target."""
    ours = found[OURS]
    expected = (1 + SLOTS - REPLICAS) * ours["parameters MB"]
    return (
        f"MB: a node's, interpreters not counted. {OURS} has {ours['MB over bare']:.1f} MB over bare; "
        f"expected {expected:.1f}: (1 + N + 2) x {ours['parameters MB']:.1f} less the 2 N x of bare."
    )


def work(config: dict[str, Any]) -> list[int] | None:
    """One replica's part: the node's bytes before and after, and the parameters' bytes."""
    from benchmarks.clock import world
    from benchmarks.gloo import process_group
    from benchmarks.memory import node_bytes
    from benchmarks.torch_models import CASES, TINY

    everyone = world()
    make = PEERS[config["peer"]]
    case = (TINY if config["tiny"] else CASES)[CASE]
    with process_group(everyone):
        _train(make(TINY[CASE], everyone.rank))  # loads modules, compiles kernels, connects
        ctypes.CDLL(None).malloc_trim(0)
        before = node_bytes(everyone)
        training = make(case, everyone.rank)
        _train(training)
        ctypes.CDLL(None).malloc_trim(0)
        after = node_bytes(everyone)
        parameters = sum(p.nbytes for p in training.model.parameters())
    return [before, after, parameters] if everyone.rank == 0 else None


def _train(training: Any) -> None:
    for _ in range(_STEPS):
        training.prepare()
        training.step()
