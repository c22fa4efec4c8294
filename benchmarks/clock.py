"""Times peers in turns, so that all of them see the machine in the same moods."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["Peer", "World", "solo", "turn", "turns", "world"]

#: A turn has at most so many steps, however short they are.
_MOST_STEPS = 300


class Peer(Protocol):
    """One way to make a step."""

    def prepare(self) -> None:
        """What comes before each step and is not timed."""

    def step(self) -> None:
        """What is timed."""


class World:
    """The replicas that a step is made on.

    Args:
        comm: an mpi4py communicator, or None for this process alone.
    """

    def __init__(self, comm: Any = None) -> None:
        self.comm = comm
        self.rank, self.size = (0, 1) if comm is None else (comm.rank, comm.size)

    def barrier(self) -> None:
        """Returns when all are here."""
        if self.comm is not None:
            self.comm.Barrier()

    def slowest(self, seconds: list[float]) -> list[float]:
        """For each number the largest of all replicas."""
        if self.comm is None:
            return seconds
        return [max(column) for column in zip(*self.comm.allgather(seconds), strict=True)]


def world() -> World:
    """All processes of the MPI job."""
    from mpi4py import MPI

    return World(MPI.COMM_WORLD)


def solo() -> World:
    """This process alone, without MPI."""
    return World()


def turns(everyone: World, peers: Mapping[str, Peer], rounds: int, seconds: float) -> dict[str, list[float]]:
    """The seconds of a step of each peer, one figure a round: the median of its steps in that round.

    A step lasts from the moment that all replicas are ready until the last one is done.

    Args:
        everyone: the replicas.
        peers: by name; each round begins with another one.
        rounds: how many turns each has.
        seconds: how long a turn lasts, about; at least one step.
    """
    counts = {}
    for name, peer in peers.items():
        turn(everyone, peer, 2)  # compiles, allocates, connects
        once = turn(everyone, peer, 1)
        counts[name] = min(max(int(seconds / max(once, 1e-9)), 1), _MOST_STEPS)
    names = list(peers)
    found: dict[str, list[float]] = {name: [] for name in names}
    for k in range(rounds):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            gc.collect()
            turn(everyone, peers[name], 1)  # the others' data leave the caches
            found[name].append(turn(everyone, peers[name], counts[name]))
    return found


def turn(everyone: World, peer: Peer, steps: int) -> float:
    """The median seconds of a step of all replicas."""
    lasted = []
    for _ in range(steps):
        peer.prepare()
        everyone.barrier()
        begin = time.perf_counter()
        peer.step()
        lasted.append(time.perf_counter() - begin)
    return statistics.median(everyone.slowest(lasted))
