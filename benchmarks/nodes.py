"""``nodes``: the step over nodes: messages and bytes counted, and its time over networks with delays."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np

from benchmarks import jobs, shapes
from benchmarks.effort import Effort
from benchmarks.model import exchanges
from benchmarks.namespaces import Unavailable, relayed
from benchmarks.report import Picture, Report, Target

__all__ = ["report", "work"]

SMALL = 1000
#: Bytes a second of each host: few enough for a network that is a Python program.
RATE = 2e6
#: The delay at which constants are fitted to these numbers of nodes, and predict the step on that one.
FITTED_AT, FITTED_ON, PREDICTED = 20e-3, (2, 3, 4), 8


def report(effort: Effort) -> Report:
    """Counts on pretended nodes, then times over delays."""
    found = Report(
        "nodes", "A step of Adam over nodes of one replica each", Picture("bars", "nodes", "peer", "ms")
    )
    for nodes in (2, 3) if effort.tiny else (2, 3, 4, 8, 16):
        parameters = 10_000 if effort.tiny else 4_000_000
        pretended = {"DISTOPT_NODES": str(nodes)}
        counted = jobs.run("nodes", _config(parameters, 1), nodes, effort.timeout, pretended)
        found.rows.append({"nodes": nodes, "peer": "pretended", **_row(parameters, counted)})
    try:
        _over_delays(found, effort)
    except Unavailable as reason:
        found.notes.append(f"delays between hosts are not possible here: {reason}")
    return found


def _config(parameters: int, steps: int) -> dict[str, Any]:
    return {"parameters": parameters, "steps": steps}


def _row(parameters: int, done: dict[str, Any]) -> dict[str, Any]:
    return {
        "parameters": parameters,
        "exchange": done["rule"],
        "messages a step": done["messages"],
        "MB sent a step": done["bytes"] / 1e6,
        "optimum": done["bytes"] / max(done["least"], 1),
        "ms": 1e3 * statistics.median(done["seconds"]),
    }


def _over_delays(found: Report, effort: Effort) -> None:
    measured = {}
    parameters = 10_000 if effort.tiny else 250_000
    for nodes in (2,) if effort.tiny else (2, 3, 4, 8):
        with relayed(nodes) as network:
            network.say(f"all rate {RATE}")
            for delay in (1e-3,) if effort.tiny else (50e-6, 1e-3, FITTED_AT):
                network.say(f"all delay {delay}")
                for size in (SMALL, parameters):
                    prefix, config = network.prefix(nodes, 1), _config(size, 5)
                    done = jobs.run("nodes", config, None, effort.timeout, network.env, prefix)
                    peer = f"delay {1e3 * delay:g} ms, {size:,} parameters"
                    row = {"nodes": nodes, "peer": peer, **_row(size, done)}
                    found.rows.append(row)
                    if delay == FITTED_AT:
                        measured[nodes, size] = row["ms"] / 1e3, done["rule"]
    if not effort.tiny:
        _predict(found, measured, parameters)


def _predict(found: Report, measured: dict[tuple[int, int], tuple[float, str]], parameters: int) -> None:
    """Fits constants to the steps on few nodes, and compares the step on many with what they predict."""

    def features(nodes: int, size: int) -> list[float]:
        step = exchanges(size, nodes, measured[nodes, size][1])
        waits = max(step.waits, math.ceil(math.log2(nodes)))  # the header's, beside the first block
        return [1.0, waits, step.nbytes]

    cases = [(nodes, size) for nodes in FITTED_ON for size in (SMALL, parameters)]
    times = np.array([measured[case][0] for case in cases])
    rows = np.array([features(*case) for case in cases])
    # Small steps count as much as large ones: relative errors.
    constants, *_ = np.linalg.lstsq(rows / times[:, None], np.ones(len(times)), rcond=None)
    predicted = float(np.array(features(PREDICTED, parameters)) @ constants)
    real = measured[PREDICTED, parameters][0]
    found.notes.append(
        f"delay {1e3 * FITTED_AT:g} ms: fitted on {FITTED_ON} nodes: {1e3 * constants[0]:.1f} ms fixed, "
        f"{1e3 * constants[1]:.1f} ms a round, {1e-6 / constants[2]:.2f} MB/s; predicted for {PREDICTED} "
        f"nodes {1e3 * predicted:.0f} ms, measured {1e3 * real:.0f} ms"
    )
    found.targets.append(Target("|predicted / measured - 1|", abs(predicted / real - 1), 0.25))


def work(config: dict[str, Any]) -> dict[str, Any] | None:
    """One replica's part."""
    from benchmarks.clock import turn, world
    from benchmarks.peers import Distopt
    from distopt.comm.mpi import MPICommunicator
    from distopt.distribute import get_replica_context

    everyone = world()
    peer = Distopt(shapes.even(config["parameters"], 4), everyone.rank)
    for _ in range(2):
        peer.step()
    counted = np.zeros(2, np.int64)
    plain = MPICommunicator.begin_messages

    def counting(self: Any, sent: Any, received: Any, tag: int = 0, came: Any = None) -> Any:
        counted[:] += (len(sent), sum(array.nbytes for _, array in sent))
        return plain(self, sent, received, tag, came)

    MPICommunicator.begin_messages = counting  # type: ignore[method-assign]
    seconds = [turn(everyone, peer, 1) for _ in range(config["steps"])]
    context = get_replica_context()
    assert context is not None
    most = np.max(context.comm.all_gather(counted), axis=0) / config["steps"]
    rule = context.shards.describe().partition(": ")[2].partition(",")[0]
    least = 2 * (everyone.size - 1) / everyone.size * 4 * config["parameters"]
    result = {"seconds": seconds, "messages": most[0], "bytes": most[1], "rule": rule, "least": least}
    return result if everyone.rank == 0 else None
