"""``overlap``: steps of PyTorch models over two hosts, beside PyTorch DDP; one replica a host.

The bare step is forward and backward. What a step takes at least is the forward pass, and then the backward
pass or the wire's floor, whichever is longer.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import jobs
from benchmarks.effort import Effort
from benchmarks.model import wire_floor
from benchmarks.namespaces import Unavailable, Wire, wire
from benchmarks.relay import DEVICE
from benchmarks.report import Picture, Report, Target

__all__ = ["Unavailable", "report", "work"]

HOSTS = 2
FIT = "fit of 784-2048-2048-10, batch 128"
FORWARD, BARE, DDP, OURS, AFTER = "forward", "bare", "DDP", "distopt", "distopt, not overlapped"
#: Rates of the wire as ``tc`` takes them, and in bits a second.
RATES = {"1 Gbit/s": ("1gbit", 1e9), "10 Gbit/s": ("10gbit", 1e10)}
#: How much of the least time, and of DDP's time at 1 Gbit/s, a step may take; and of DDP's overhead at 10.
LEAST, SHARE, OVERHEAD = 1.12, 0.8, 0.4
#: And of a batch of ``fit``, of its time without overlap.
SHARE_OF_FIT = 0.85
#: Steps until it has been decided whether to overlap.
_SETTLED = 45


def report(effort: Effort) -> Report:
    """Sets the hosts up for each rate, and runs the models in one job, with overlap and without."""
    found = Report(
        "overlap",
        "A training step of PyTorch models over two hosts, one replica each, float32, Adam",
        Picture("bars", "case", "peer", "ms"),
    )
    for rate, (words, bits) in RATES.items():
        with wire(words, bits) as hosts:
            _measure(found, hosts, rate, effort)
    return found


def _measure(found: Report, hosts: Wire, rate: str, effort: Effort) -> None:
    config = {"tiny": effort.tiny, "rounds": effort.rounds, "seconds": effort.seconds}
    env = {**hosts.env, "GLOO_SOCKET_IFNAME": DEVICE}
    prefix = hosts.prefix(HOSTS, 1)
    result = jobs.run("overlap", config, None, effort.timeout, env, prefix)
    fit = result.pop(FIT)[1]
    _add_fit(found, rate, fit[OURS], fit[AFTER])
    for case, (parameters, peers) in result.items():
        ms = {peer: 1e3 * statistics.median(times) for peer, times in peers.items()}
        floor = 1e3 * wire_floor(parameters, HOSTS, hosts.bits_per_second / 8)
        least = ms[FORWARD] + max(ms[BARE] - ms[FORWARD], floor)
        for peer, milliseconds in ms.items():
            found.rows.append(
                {
                    "case": f"{case}, {rate}",
                    "peer": peer,
                    "ms": milliseconds,
                    "DDP / it": ms[DDP] / milliseconds,
                    "x least": milliseconds / least,
                    "rounds_ms": [1e3 * t for t in peers[peer]],
                }
            )
        found.notes.append(f"{case}, {rate}: wire's floor {floor:.1f} ms, least {least:.1f} ms")
        words = f"{case}, {rate}: "
        if rate == "1 Gbit/s":
            found.targets.append(Target(words + "share of DDP's time", ms[OURS] / ms[DDP], SHARE, " x"))
            found.targets.append(Target(words + "time over the least", ms[OURS] / least, LEAST, " x"))
        else:
            over = (ms[OURS] - ms[BARE]) / (ms[DDP] - ms[BARE])
            found.targets.append(Target(words + "share of DDP's overhead", over, OVERHEAD, " x"))


def _add_fit(found: Report, rate: str, times: list[float], after: list[float]) -> None:
    """A model of distopt's own: with overlap and without."""
    ms = {OURS: 1e3 * statistics.median(times), AFTER: 1e3 * statistics.median(after)}
    for peer, rounds in ((OURS, times), (AFTER, after)):
        row = {"case": f"{FIT}, {rate}", "peer": peer, "ms": ms[peer], "rounds_ms": [1e3 * t for t in rounds]}
        found.rows.append(row)
    if rate == "1 Gbit/s":
        words = f"{FIT}, {rate}: share of the time without overlap"
        found.targets.append(Target(words, ms[OURS] / ms[AFTER], SHARE_OF_FIT, " x"))


def work(config: dict[str, Any]) -> dict[str, Any] | None:
    """One replica's part."""
    import gc

    from benchmarks.clock import turn, turns, world
    from benchmarks.gloo import process_group
    from benchmarks.torch_models import mlp
    from benchmarks.torch_peers import PEERS

    everyone = world()
    tiny = config["tiny"]
    cases = {"deep MLP, batch 512": mlp(16, 2, 4) if tiny else mlp(760, 10, 512)}
    result = {}
    with process_group(everyone):
        for name, case in cases.items():
            peers = {peer: make(case, everyone.rank) for peer, make in {FORWARD: forward, **PEERS}.items()}
            with _overlap("off"):
                peers[AFTER] = PEERS[OURS](case, everyone.rank)
                turn(everyone, peers[AFTER], 1)
            turn(everyone, peers[OURS], _SETTLED)
            times = turns(everyone, peers, config["rounds"], config["seconds"])
            count = sum(p.numel() for p in peers[OURS].model.parameters())
            result[name] = (count, times)
            del peers
            gc.collect()
        widths, batch = ([16, 16, 10], 4) if tiny else ([784, 2048, 2048, 10], 128)
        fits = {peer: _Fit(widths, batch, everyone.size) for peer in (OURS, AFTER)}
        with _overlap("off"):
            turn(everyone, fits[AFTER], 1)
        turn(everyone, fits[OURS], _SETTLED)
        result[FIT] = (0, turns(everyone, fits, config["rounds"], config["seconds"]))
    return result if everyone.rank == 0 else None


@contextmanager
def _overlap(mode: str) -> Iterator[None]:
    """What optimizers make their first step with here is their mode from then on."""
    before = os.environ.get("DISTOPT_OVERLAP")
    os.environ["DISTOPT_OVERLAP"] = mode
    try:
        yield
    finally:
        if before is None:
            del os.environ["DISTOPT_OVERLAP"]
        else:
            os.environ["DISTOPT_OVERLAP"] = before


class _Fit:
    """A batch of ``fit``."""

    def __init__(self, widths: list[int], batch: int, replicas: int) -> None:
        from benchmarks.models import classes, keras_mlp
        from distopt import keras
        from distopt.optimizers import Adam

        self._model = keras_mlp(widths)
        self._model.compile(Adam(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        self._data = classes((widths[0],), batch * replicas, 0)  # of which each replica takes its share

    def prepare(self) -> None:
        """Nothing."""

    def step(self) -> None:
        """One batch."""
        self._model.train_on_batch(*self._data)


class _Forward:
    """The forward pass alone."""

    def __init__(self, training: Any) -> None:
        self._training = training
        self.prepare = training.prepare

    def step(self) -> None:
        """One pass, which could be followed by a backward pass."""
        self._training.forward()


def forward(case: Any, rank: int) -> Any:
    """The model's forward pass and loss."""
    from benchmarks.torch_peers import bare

    return _Forward(bare(case, rank))
