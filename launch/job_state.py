"""How a job ended: who failed first, with which exit code."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass, field

from .protocol import Event

#: What replicas raise because another has failed.
_CONSEQUENCES = ("ReplicaFailed", "mpi4py.MPI.Exception")
#: No exit code and no process number has more digits.
_NUMBER = re.compile(r"-?[0-9]{1,7}")
#: How a process can end: by a signal (negative) or with an exit code.
_STATUSES = range(-64, 256)
#: Linux gives no process a larger number.
_LARGEST = 1 << 22


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
class JobState:
    """Collects the news of the replicas in the order of their coming."""

    size: int
    started: set[int] = field(default_factory=set)
    done: set[int] = field(default_factory=set)  # came to the orderly end of their programs
    pids: dict[int, tuple[int, int]] = field(default_factory=dict)  # on this machine: replica's, supervisor's
    ended: dict[int, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    #: Replicas that left with exit code 0 before the end of their programs: ``os._exit``, ``exec``.
    early: list[int] = field(default_factory=list)

    def record(self, event: Event, here: bool) -> None:
        """Notes one event, of this machine or of another; malformed and repeated ones are left out."""
        rank, values = event.rank, event.values
        if not 0 <= rank < self.size or not all(map(_NUMBER.fullmatch, values[:1])):
            return
        value = int(values[0])
        if event.kind == "start" and rank not in self.started:
            self.started.add(rank)
            # Another machine's numbers must never be signalled here.
            if here and len(values) == 2 and _NUMBER.fullmatch(values[1]):
                self._started(rank, value, int(values[1]))
        elif event.kind == "done":
            self.done.add(rank)
        elif value not in _STATUSES:
            return
        elif event.kind == "raised" and value > 0 and not self._failed(rank):
            self.failures.append(_raised(rank, value, values[1][:200] if len(values) > 1 else ""))
        elif event.kind == "exit" and rank not in self.ended:
            self.ended[rank] = value
            if value and not self._failed(rank):
                self.failures.append(_ended(rank, value, told=len(values) > 1))
            elif not value and rank not in self.done:
                self.early.append(rank)

    def _started(self, rank: int, pid: int, supervisor: int) -> None:
        own = (os.getpid(), os.getpgrp())
        # 0, 1 and negative numbers would mean whole groups, or all processes, to kill(2).
        if all(1 < number <= _LARGEST and number not in own for number in (pid, supervisor)):
            self.pids[rank] = (pid, supervisor)

    def _failed(self, rank: int) -> bool:
        return any(failure.rank == rank for failure in self.failures)

    def conclude(self) -> None:
        """At the job's end: names the replica that left the others.

        Leaving with exit code 0 by ``os._exit``, or by another program in the replica's place, is no failure
        where all do so. Where only some do, nothing says that they had done their part; under MPI the others
        often wait for them, and are killed.
        """
        others = self.done or self.vanished or self.failures
        if self.early and others and all(f.consequence for f in self.failures):
            how = "ended with exit code 0 before the end of its program (os._exit?)"
            self.failures.insert(0, Failure(self.early[0], 1, how))

    @property
    def vanished(self) -> list[int]:
        """Replicas that have started, and of whose end nothing is known."""
        return sorted(self.started - self.done - self.ended.keys())

    @property
    def cut_short(self) -> list[int]:
        """Replicas that were ended after the ends of their programs, since another left MPI without a word.

        Empty if anything else has gone wrong.
        """
        whole = len(self.done) == self.size and 0 in self.ended.values() and not self.failures
        return sorted(self.done - self.ended.keys()) if whole else []

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
