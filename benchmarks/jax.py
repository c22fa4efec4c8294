"""``jax``: training steps of JAX models by ``distopt.jax``, beside JAX's own collectives; two replicas.

They run on this machine and, where hosts can be set up (superuser, Linux, iproute2), on two at 1 Gbit/s.

The bare step is the gradient alone, by both replicas at the same time. JAX's own way is one jitted step over
the processes of ``jax.distributed``, with Gloo. All have one thread a process.
"""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks import jobs
from benchmarks.effort import Effort
from benchmarks.namespaces import Unavailable, wire
from benchmarks.relay import address
from benchmarks.report import Picture, Report, Target

__all__ = ["report", "targets", "work"]

REPLICAS = 2
BARE, GLOO, OURS, CHAIN = "bare", "JAX + Gloo", "distopt", "optax, summed by distopt"
#: The batch of a replica, by case.
BATCHES = {"MLP, batch 64": 64, "MLP, batch 256": 256}
#: How many times faster than JAX with Gloo the step of a case has to be.
FASTER = {"MLP, batch 64": 2.5, "MLP, batch 256": 1.8}
#: And over two hosts.
FASTER_OVER_HOSTS = 1.0
_ENV = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "JAX_PLATFORMS": "cpu"}


def report(effort: Effort) -> Report:
    """Runs both cases in one job."""
    found = Report(
        "jax",
        "A training step of a JAX model of 5.8 M parameters, Adam, 2 replicas, float32",
        Picture("bars", "case", "peer", "ms"),
    )
    config = {
        "widths": [8, 16, 10] if effort.tiny else [784, *[760] * 10, 10],
        "rounds": effort.rounds,
        "seconds": effort.seconds,
        "port": jobs.free_port(),
    }
    _add(found, jobs.run("jax", config, REPLICAS, effort.timeout, _ENV))
    try:
        with wire() as hosts:
            over = {**config, "addresses": [address(host) for host in range(REPLICAS)]}
            env, prefix = {**hosts.env, **_ENV}, hosts.prefix(REPLICAS, 1)
            _add(found, jobs.run("jax", over, None, effort.timeout, env, prefix), ", two hosts")
    except Unavailable as reason:
        found.notes.append(f"two hosts: not measured, {reason}")
    found.notes.append(
        f"{BARE}: the gradient of both replicas at once, nothing summed or updated. {GLOO}: one jitted step "
        f"with optax.adam over jax.distributed. {CHAIN}: a jitted step with "
        f"optax.chain(dj.aggregate(), optax.adam(...))."
    )
    return found


def _add(found: Report, result: dict[str, dict[str, list[float]]], where: str = "") -> None:
    for name, peers in result.items():
        case = name + where
        ms = {peer: 1e3 * statistics.median(times) for peer, times in peers.items()}
        found.targets += targets(case, ms)
        found.rows += [
            {
                "case": case,
                "peer": peer,
                "ms": ms[peer],
                "JAX + Gloo / it": ms[GLOO] / ms[peer],
                "over bare ms": ms[peer] - ms[BARE],
                "rounds_ms": [1e3 * t for t in times],
            }
            for peer, times in peers.items()
        ]


def targets(case: str, ms: dict[str, float]) -> list[Target]:
    """The figure to reach in a case, from each peer's time."""
    faster = FASTER.get(case, FASTER_OVER_HOSTS)
    return [Target(f"{case}: share of JAX + Gloo's time", ms[OURS] / ms[GLOO], 1 / faster, " x")]


def work(config: dict[str, Any]) -> dict[str, Any] | None:
    """One replica's part."""
    from benchmarks.clock import turns, world
    from benchmarks.jax_peers import connect, make_peers

    everyone = world()
    connect(everyone, config["port"], config.get("addresses"))
    result = {}
    for case, batch in BATCHES.items():
        peers = make_peers(config["widths"], batch, everyone)
        result[case] = turns(everyone, peers, config["rounds"], config["seconds"])
    return result if everyone.rank == 0 else None
