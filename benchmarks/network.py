"""``network``: a step over two hosts of one and two replicas, joined at 1 Gbit/s."""

from __future__ import annotations

import gc
import statistics
from typing import Any

from benchmarks import jobs, shapes
from benchmarks.effort import Effort
from benchmarks.model import BLOCK, Constants, predicted, wire_floor
from benchmarks.namespaces import Unavailable, Wire, wire
from benchmarks.report import Picture, Report, Target

__all__ = ["Unavailable", "report", "work"]

HOSTS = 2
OURS, NUMPY, PLAIN = "distopt", "Allreduce a variable + NumPy Adam", "MPI Sendrecv of the floor's bytes"
BLOCKS = "MPI Sendrecv of them in blocks"
PREDICTED, SMALL = "distopt, predicted", "distopt, one of 1,000"


def report(effort: Effort) -> Report:
    """Sets the hosts up and runs a job for one and for two replicas a host."""
    parameters = 40_000 if effort.tiny else 25_000_000
    found = Report(
        "network",
        f"A step of Adam over two hosts at 1 Gbit/s, {parameters:,} parameters",
        Picture("bars", "replicas a host", "peer", "x wire's floor"),
    )
    with wire() as hosts:
        for replicas in (1, 2):
            _measure(found, hosts, replicas, parameters, effort)
    return found


def _measure(found: Report, hosts: Wire, replicas: int, parameters: int, effort: Effort) -> None:
    config = {
        "shapes": shapes.even(parameters, 50),
        "rounds": min(effort.rounds, 3) if not effort.full else effort.rounds,
        "seconds": effort.seconds,
        "bytes": 4 * parameters // replicas,
        "block": 4 * BLOCK // HOSTS // replicas,
    }
    alone = {**config, "alone": True}
    over_wire = jobs.run("network", config, None, effort.timeout, hosts.env, hosts.prefix(HOSTS, replicas))
    on_one = jobs.run("network", alone, None, effort.timeout, hosts.env, hosts.prefix(1, replicas))
    seconds = {peer: statistics.median(times) for peer, times in over_wire.items()}
    one = {peer: statistics.median(times) for peer, times in on_one.items()}
    floor = wire_floor(parameters, HOSTS, hosts.bits_per_second / 8)
    sent = 2 * (HOSTS - 1) / HOSTS * 4 * parameters
    messages = -(-config["bytes"] // config["block"])
    constants = Constants(
        fixed=seconds[SMALL],
        per_parameter=max(one[OURS] - one[SMALL], 0.0) / parameters,
        bytes_per_second=sent / min(seconds[PLAIN], seconds[BLOCKS]),
        message=max(seconds[BLOCKS] - seconds[PLAIN], 0.0) / messages,
    )
    seconds[PREDICTED] = predicted(parameters, HOSTS, constants)
    for peer, time in seconds.items():
        row = {"replicas a host": replicas, "peer": peer, "ms": 1e3 * time}
        if peer != SMALL:
            row["x wire's floor"] = time / floor
        row["rounds_ms"] = [1e3 * t for t in over_wire.get(peer, [])]
        found.rows.append(row)
    for peer, time in one.items():
        found.rows.append({"replicas a host": replicas, "peer": f"{peer}, one host alone", "ms": 1e3 * time})
    words = f"{replicas} a host: "
    found.targets.append(Target(words + "time over the wire's floor", seconds[OURS] / floor, 1.15, " x"))
    found.notes.append(
        f"{words}wire's floor {1e3 * floor:.1f} ms; MPI brings {constants.bytes_per_second / 1e6:.1f} MB/s "
        f"of {hosts.bits_per_second / 8e6:.0f}, and takes {1e6 * constants.message:.0f} us a message; "
        f"predicted / measured = {seconds[PREDICTED] / seconds[OURS]:.3f}"
    )


class Exchange:
    """A peer that only sends: each replica of the first host with the one of its rank in the second."""

    def __init__(self, comm: Any, nbytes: int, message: int) -> None:
        import numpy as np

        self._comm, self._message = comm, message
        self._other = (comm.rank + comm.size // 2) % comm.size
        self._sent, self._received = np.ones(nbytes, np.uint8), np.empty(nbytes, np.uint8)

    def prepare(self) -> None:
        """Nothing."""

    def step(self) -> None:
        """Both directions at once."""
        for start in range(0, len(self._sent), self._message):
            part = slice(start, start + self._message)
            sent, received = self._sent[part], self._received[part]
            self._comm.Sendrecv(sent, self._other, recvbuf=received, source=self._other)


def work(config: dict[str, Any]) -> dict[str, Any] | None:
    """One replica's part."""
    from benchmarks.clock import turns, world
    from benchmarks.peers import Distopt, MPINumPyAdam

    everyone = world()
    alone = config.get("alone", False)
    small = turns(everyone, {SMALL: Distopt([(1000,)], everyone.rank)}, config["rounds"], 0.05)
    peers: dict[str, Any] = {OURS: Distopt(config["shapes"], everyone.rank)}
    if not alone:
        peers[PLAIN] = Exchange(everyone.comm, config["bytes"], config["bytes"])
        peers[BLOCKS] = Exchange(everyone.comm, config["bytes"], config["block"])
        peers[NUMPY] = MPINumPyAdam(config["shapes"], everyone)
    large = turns(everyone, peers, config["rounds"], config["seconds"])
    del peers
    gc.collect()
    return {**large, **small} if everyone.rank == 0 else None
