"""How a job ended: who failed first, with which exit code."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

from .channel import News

#: What replicas raise because another has failed.
_CONSEQUENCES = ("ReplicaFailed", "mpi4py.MPI.Exception")


@dataclass
class Failure:
    """A replica's failure.

    Attributes:
        rank: the replica.
        code: the exit code, 128 + signal when it was killed.
        how: in words, after "replica R".
        consequence: it only followed from another's failure.
        name: the exception's, if one was raised.
    """

    rank: int
    code: int
    how: str
    consequence: bool = False
    name: str = ""


@dataclass
class Verdict:
    """Collects the news of the replicas in the order of their coming."""

    size: int
    started: set[int] = field(default_factory=set)
    pids: dict[int, tuple[int, int]] = field(default_factory=dict)  # on this machine: replica's, guardian's
    ended: dict[int, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def take(self, news: News, here: bool) -> None:
        """Notes one event, of this machine or of another; malformed ones are left out."""
        if not 0 <= news.rank < self.size or not news.values[0].lstrip("-").isdigit():
            return
        value = int(news.values[0])
        if news.kind == "start":
            self.started.add(news.rank)
            # Another machine's numbers must never be signalled here.
            if here and len(news.values) == 2 and news.values[1].isdigit():
                self.pids[news.rank] = (value, int(news.values[1]))
        elif news.kind == "raised":
            name = news.values[1] if len(news.values) > 1 else ""
            self.failures.append(_raised(news.rank, value, name))
        elif news.kind == "exit":
            self.ended[news.rank] = value
            if value and all(failure.rank != news.rank for failure in self.failures):
                self.failures.append(_ended(news.rank, value, told=len(news.values) > 1))

    @property
    def first(self) -> Failure | None:
        """The failure that others followed from."""
        causes = [failure for failure in self.failures if not failure.consequence]
        return next(iter(causes or self.failures), None)

    @property
    def running(self) -> dict[int, tuple[int, int]]:
        """Replicas of this machine that have started and not ended, with their pids."""
        return {rank: pids for rank, pids in self.pids.items() if rank not in self.ended}


def signal_name(number: int) -> str:
    """E.g. ``SIGKILL``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _raised(rank: int, code: int, name: str) -> Failure:
    if name == "SystemExit":
        return Failure(rank, code, f"ended with exit code {code}", name=name)
    short = name.rpartition(".")[2]
    return Failure(rank, code, f"raised {short}", consequence=name.endswith(_CONSEQUENCES), name=name)


def _ended(rank: int, status: int, told: bool) -> Failure:
    if status < 0:
        how = f"was killed by signal {-status} ({signal_name(-status)})"
        return Failure(rank, 128 - status, how, consequence=told)
    return Failure(rank, status, f"ended with exit code {status}", consequence=told)
