"""``network``: a step over two hosts of one and two replicas, joined at 1 Gbit/s.

With one replica a host also what sends fewer bytes: each :class:`Case` beside the exact step of the same job.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

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


class Case(NamedTuple):
    """What sends fewer bytes than the sum of float32 gradients.

    Attributes:
        most: its time over the exact step's, at most.
        make: makes the optimizer; Adam like the exact step's.
        steps: how many steps make one: those of a round, if it exchanges once a round.
    """

    most: float
    make: Callable[[], Any]
    steps: int = 1


def _adam(**options: Any) -> Any:
    from distopt.optimizers import Adam

    return Adam(1e-3, **options)


def _aggregator(name: str, **arguments: Any) -> Any:
    from distopt import aggregators

    return getattr(aggregators, name)(**arguments)


def _local(name: str, **options: Any) -> Any:
    from distopt import optimizers

    return getattr(optimizers, name)(_adam(gradient_aggregator="mean"), every=20, **options)


def _nesterov() -> Any:
    from distopt.optimizers import SGD

    return SGD(0.7, momentum=0.9, nesterov=True)


EXACT = "exact mean"
#: By name.
CASES = {
    "mean as bf16": Case(0.55, lambda: _adam(gradient_aggregator=_aggregator("Mean", wire="bf16"))),
    "mean as fp16": Case(0.55, lambda: _adam(gradient_aggregator=_aggregator("Mean", wire="fp16"))),
    "mean as int8": Case(0.36, lambda: _adam(gradient_aggregator=_aggregator("Mean", wire="int8"))),
    "LocalSGD, every 20": Case(0.08, lambda: _local("LocalSGD"), steps=20),
    "DiLoCo, every 20": Case(0.08, lambda: _local("DiLoCo"), steps=20),
    "DiLoCo, every 20, as float32": Case(0.10, lambda: _local("DiLoCo", outer=_nesterov()), steps=20),
    "PowerSGD, rank 4": Case(0.15, lambda: _adam(gradient_aggregator=_aggregator("PowerSGD", rank=4))),
    "TopK, 1 %": Case(0.20, lambda: _adam(gradient_aggregator=_aggregator("TopK", fraction=0.01))),
    "SignSGD": Case(0.30, lambda: _adam(gradient_aggregator=_aggregator("SignSGD"))),
}


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
        _compare(found, hosts, effort)
    return found


def _compare(found: Report, hosts: Wire, effort: Effort) -> None:
    """The cases, in turns with the exact step, on a model of 5.8 M parameters."""
    shapes = [[64, 64]] * 4 if effort.tiny else [[760, 760]] * 10
    config = {"cases": shapes, "rounds": min(effort.rounds, 3), "seconds": effort.seconds}
    times = jobs.run("network", config, None, 2 * effort.timeout, hosts.env, hosts.prefix(HOSTS, 1))
    seconds = {name: statistics.median(rounds) for name, rounds in times.items()}
    for name, time in seconds.items():
        row = {"replicas a host": 1, "peer": name, "ms": 1e3 * time, "x exact": time / seconds[EXACT]}
        found.rows.append({**row, "rounds_ms": [1e3 * t for t in times[name]]})
    for name, case in CASES.items():
        found.targets.append(
            Target(f"{name}: time over the exact step", seconds[name] / seconds[EXACT], case.most, " x")
        )
    found.notes.append("x exact: a step of Adam on 5.8 M parameters in 10 variables, beside the exact mean.")


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


class _Rounds:
    """A peer whose step is the mean of several."""

    def __init__(self, shapes: list[list[int]], rank: int, case: Case) -> None:
        import numpy as np

        from benchmarks.peers import Distopt

        self._peer, self._steps = Distopt(shapes, rank, case.make), case.steps
        draw = np.random.default_rng(rank).normal
        self._peer.gradients = [draw(0, 1e-3, shape).astype(np.float32) for shape in shapes]

    def prepare(self) -> None:
        """Other gradients for each variable: compressions take longer over some numbers than over others."""
        self._peer.gradients.append(self._peer.gradients.pop(0))

    def step(self) -> None:
        """All steps of a round."""
        for _ in range(self._steps):
            self._peer.step()


def _of_cases(config: dict[str, Any]) -> dict[str, list[float]] | None:
    """The seconds of a step of each case, and of the exact step."""
    from benchmarks.clock import turns, world

    everyone = world()
    cases = {EXACT: Case(1.0, lambda: _adam(gradient_aggregator="mean")), **CASES}
    peers = {name: _Rounds(config["cases"], everyone.rank, case) for name, case in cases.items()}
    times = turns(everyone, peers, config["rounds"], config["seconds"])
    found = {name: [t / cases[name].steps for t in rounds] for name, rounds in times.items()}
    return found if everyone.rank == 0 else None


def work(config: dict[str, Any]) -> dict[str, Any] | None:
    """One replica's part."""
    if "cases" in config:
        return _of_cases(config)
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
