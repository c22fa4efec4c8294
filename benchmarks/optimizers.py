"""``optimizers``: the step of each optimizer, with clips, user code and private memory, over its floor."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks import jobs, shapes
from benchmarks.effort import Effort
from benchmarks.report import Picture, Report

__all__ = ["report", "work"]

REPLICAS = 2
OURS, FLOOR = "distopt", "floor"

#: By name: the class, its arguments, and how many slots it has.
RULES: dict[str, tuple[str, dict[str, Any], int]] = {
    "SGD": ("SGD", {}, 0),
    "SGD, momentum": ("SGD", {"momentum": 0.9}, 1),
    "SGD, weight decay": ("SGD", {"weight_decay": 0.1}, 0),
    "AdaBelief": ("AdaBelief", {}, 2),
    "Adadelta": ("Adadelta", {}, 2),
    "Adagrad": ("Adagrad", {}, 1),
    "Adam": ("Adam", {}, 2),
    "Adam, amsgrad": ("Adam", {"amsgrad": True}, 3),
    "AdamW": ("AdamW", {}, 2),
    "Adamax": ("Adamax", {}, 2),
    "Ftrl": ("Ftrl", {}, 2),
    "Lion": ("Lion", {"learning_rate": 1e-4}, 1),
    "Nadam": ("Nadam", {}, 2),
    "RAdam": ("RAdam", {}, 2),
    "RMSprop": ("RMSprop", {}, 1),
}
#: By name: the class, its arguments, and how many slots its two passes have.
TRUST_RATIOS: dict[str, tuple[str, dict[str, Any], tuple[int, int]]] = {
    "LAMB": ("LAMB", {}, (2, 0)),
    "LARS": ("LARS", {"weight_decay": 1e-4}, (0, 1)),
}
#: What is put into Adam's pipeline; whether the sum has to be kept for it.
PIPELINES: dict[str, tuple[dict[str, Any], bool]] = {
    "Adam, mean": ({"gradient_aggregator": "mean"}, False),
    "Adam, clipvalue": ({"clipvalue": 0.5}, False),
    "Adam, clipnorm": ({"clipnorm": 1.0}, True),
    "Adam, global_clipnorm": ({"global_clipnorm": 1.0}, True),
    "Adam, skip nonfinite": ({"on_nonfinite": "skip"}, False),
    "Adam, user aggregator": ({"gradient_aggregator": "user"}, True),
    "Adam, user transformer": ({"gradient_transformers": "user"}, True),
}
#: What ``tiny`` does without: most of its time went into compiling floors.
NOT_TINY = {name for name in (*RULES, *TRUST_RATIOS) if name not in ("SGD", "Adam")}
#: Ways to keep variables: the environment that asks for them.
WAYS = {
    "shared": {"DISTOPT_MEMORY": "shared"},
    "private": {"DISTOPT_MEMORY": "private"},
}


def report(effort: Effort) -> Report:
    """Runs one job for each way to keep variables."""
    parameters = 10_000 if effort.tiny else 10_000_000
    found = Report(
        "optimizers",
        f"A step of each optimizer, {parameters:,} parameters in 50 variables, 2 replicas",
        Picture("bars", "optimizer", "memory", "x floor"),
    )
    left_out = sorted(NOT_TINY) if effort.tiny else []
    config = {
        "left_out": left_out,
        "parameters": parameters,
        "rounds": min(effort.rounds, 5),
        "seconds": effort.seconds / 3,
    }
    for way, env in WAYS.items():
        asked = {**config, "private": way == "private"}
        result = jobs.run("optimizers", asked, REPLICAS, effort.timeout, env)
        for name, peers in result.items():
            medians = {peer: statistics.median(times) for peer, times in peers.items()}
            found.rows.append(
                {
                    "optimizer": name,
                    "memory": way,
                    "ms": 1e3 * medians[OURS],
                    "floor ms": 1e3 * medians[FLOOR],
                    "x floor": medians[OURS] / medians[FLOOR],
                    "rounds_ms": [1e3 * t for t in peers[OURS]],
                }
            )
    found.notes.append(
        "Each floor moves the bytes of its own case: by the slots of the rule; the sum written and read once "
        "more for norms and user code; two passes for trust ratios; everything by every replica where memory "
        "is private."
    )
    return found


def work(config: dict[str, Any]) -> dict[str, Any] | None:
    """One replica's part."""
    from benchmarks.clock import turns, world
    from benchmarks.floor import Floor, TrustRatioFloor
    from benchmarks.peers import Distopt

    everyone = world()
    layout = shapes.even(config["parameters"], 50)
    elements = config["parameters"] // (1 if config["private"] else everyone.size)
    size = everyone.size
    cases: dict[str, tuple[str, dict[str, Any], Callable[[], Floor]]] = {}
    for name, (cls, arguments, slots) in RULES.items():
        cases[name] = cls, arguments, partial(Floor, elements, size, slots)
    for name, (cls, arguments, both) in TRUST_RATIOS.items():
        cases[name] = cls, arguments, partial(TrustRatioFloor, elements, size, *both)
    for name, (arguments, kept) in PIPELINES.items():
        cases[name] = "Adam", arguments, partial(Floor, elements, size, 2, kept)
    result = {}
    for name, (cls, arguments, floor) in cases.items():
        if name in config["left_out"]:
            continue
        peers = {
            OURS: Distopt(layout, everyone.rank, lambda c=cls, a=arguments: make(c, a)),
            FLOOR: floor(),
        }
        result[name] = turns(everyone, peers, config["rounds"], config["seconds"])
        del peers
        gc.collect()
    return result if everyone.rank == 0 else None


def make(name: str, arguments: dict[str, Any]) -> Any:
    """The optimizer of a case."""
    import distopt as tf

    user = {"gradient_aggregator": _sum_by_hand, "gradient_transformers": [_halves]}
    given = {key: user[key] if value == "user" else value for key, value in arguments.items()}
    return getattr(tf.optimizers, name)(**given)


def _sum_by_hand(grads_and_vars: Any) -> Any:
    import distopt as tf

    pairs = list(grads_and_vars)
    summed = tf.distribute.get_replica_context().all_reduce("sum", [gradient for gradient, _ in pairs])
    return [(gradient, variable) for gradient, (_, variable) in zip(summed, pairs, strict=True)]


def _halves(grads_and_vars: Any) -> Any:
    return [(gradient * 0.5, variable) for gradient, variable in grads_and_vars]
