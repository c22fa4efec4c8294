"""``ledger``: what a step pays for knowing who comes when; 2 replicas."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks import jobs
from benchmarks.effort import Effort
from benchmarks.report import Picture, Report, Target

__all__ = ["report", "work"]

MOST_NANOSECONDS = 1000.0
_CALLS, _ROUNDS = 200, 2000


def report(effort: Effort) -> Report:
    """Runs one job; the calls of the ledger alone are timed, in short batches, and the fastest counts."""
    found = Report(
        "ledger",
        "The ledger's own calls in a step, 2 replicas, nanoseconds; and a whole small step",
        Picture("bars", "call", "what", "ns"),
    )
    rounds = 20 if effort.tiny else _ROUNDS
    times: dict[str, float] = jobs.run("ledger", {"rounds": rounds}, 2, effort.timeout)
    step = times.pop("a whole step of 3 variables")
    found.rows = [{"call": call, "what": "distopt", "ns": ns} for call, ns in times.items()]
    found.rows.append({"call": "a whole step of 3 variables", "what": "distopt", "ns": step})
    found.targets = [Target("the ledger in a step", sum(times.values()), MOST_NANOSECONDS, " ns")]
    return found


def _least(call: Callable[[], Any], rounds: int) -> float:
    """Nanoseconds of a call, without those of the loop."""
    times = {}
    for name, function in (("call", call), ("nothing", lambda: None)):
        times[name] = min(_batch(function) for _ in range(rounds))
    return times["call"] - times["nothing"]


def _batch(function: Callable[[], Any]) -> float:
    begin = time.perf_counter_ns()
    for _ in range(_CALLS):
        function()
    return (time.perf_counter_ns() - begin) / _CALLS


def work(config: dict[str, Any]) -> dict[str, float] | None:
    """One replica's part: the job's own step, then the ledger's calls, on a ledger of the job's size."""
    import numpy as np

    import distopt as tf

    optimizer = tf.optimizers.Adam()
    variables = [tf.Variable(np.ones((10, 10), np.float32), name=f"v{i}") for i in range(3)]
    pairs = [(np.ones((10, 10), np.float32), v) for v in variables]
    steps = []
    for _ in range(config["rounds"] + 20):
        begin = time.perf_counter_ns()
        optimizer.apply_gradients(pairs)
        steps.append(time.perf_counter_ns() - begin)
    context = tf.distribute.get_replica_context()
    assert context is not None
    check = context.collective_check
    ledger, number, rounds = check.ledger, check.calls, config["rounds"]
    assert ledger is not None
    address, arrive, settle = ledger.address, ledger.arrive, ledger.settle
    context.comm.barrier()
    found = {
        "a replica comes": _least(lambda: arrive(address, number, 0), rounds),
        "all have come": _least(lambda: settle(address, number, 0, 0), rounds),
        "the call ends": _least(lambda: check.ended.__setitem__(0, time.monotonic_ns()), rounds),
        "a whole step of 3 variables": statistics.median(steps),
    }
    context.comm.barrier()
    return found if context.comm.rank == 0 else None
