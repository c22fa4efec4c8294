"""JobState: which replicas of a job run, have ended, or failed, and which failed first."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass, field

from .protocol import Event

#: Exceptions that replicas raise because another replica has failed.
_CONSEQUENCES = ("ReplicaFailed", "mpi4py.MPI.Exception")
#: Exceptions that all replicas raise with the same message.
_ALIKE = ("ReplicaMismatch", "ReplicaStalled")
#: Exit codes and PIDs have no more digits.
_NUMBER = re.compile(r"-?[0-9]{1,7}")
#: How a process can end: by a signal (negative) or with an exit code.
_STATUSES = range(-64, 256)
#: The largest PID on Linux.
_MAX_PID = 1 << 22


@dataclass
class Failure:
    """A replica's failure.

    Attributes:
        rank: the replica.
        code: the exit code; 128 + signal if it was killed.
        how: how it failed, as text that follows "replica R".
        consequence: whether the failure of another replica caused it.
        name: the name of the exception, if one was raised.
    """

    rank: int
    code: int
    how: str
    consequence: bool = False
    name: str = ""


@dataclass
class JobState:
    """The state of the replicas of a job, from their events.

    Attributes:
        size: the number of processes.
        started: the replicas that have started.
        done: the replicas whose programs have finished.
        pids: the process IDs of replica and supervisor, for the replicas on this machine.
        ended: the exit codes of replicas that have ended; negative for a signal.
        failures: the failures in the order in which they were reported.
        early: the replicas that exited with code 0 before the end of their programs (``os._exit``, ``exec``).
    """

    size: int
    started: set[int] = field(default_factory=set)
    done: set[int] = field(default_factory=set)
    pids: dict[int, tuple[int, int]] = field(default_factory=dict)
    ended: dict[int, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    early: list[int] = field(default_factory=list)

    def record(self, event: Event, here: bool) -> None:
        """Records an event. Malformed and repeated events are ignored.

        Args:
            event: the event.
            here: whether it comes from this machine.
        """
        rank, values = event.rank, event.values
        if not 0 <= rank < self.size or not all(map(_NUMBER.fullmatch, values[:1])):
            return
        value = int(values[0])
        if event.kind == "start" and rank not in self.started:
            self.started.add(rank)
            # PIDs of another machine must never be signalled here.
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
                self.failures.append(_ended(rank, value, asked=len(values) > 1))
            elif not value and rank not in self.done:
                self.early.append(rank)

    def _started(self, rank: int, pid: int, supervisor: int) -> None:
        own = (os.getpid(), os.getpgrp())
        # For kill(2), 1 is init, and 0 and negative numbers are groups or all processes.
        if all(1 < number <= _MAX_PID and number not in own for number in (pid, supervisor)):
            self.pids[rank] = (pid, supervisor)

    def _failed(self, rank: int) -> bool:
        return any(failure.rank == rank for failure in self.failures)

    def conclude(self) -> None:
        """At the end of the job: records a failure if only some replicas exited early with code 0.

        If all do, it is not a failure. If only some do, their programs may not have finished. With MPI, the
        others often wait for them and are killed.
        """
        others = self.done or self.vanished or self.failures
        if self.early and others and all(f.consequence for f in self.failures):
            how = "ended with exit code 0 before the end of its program (os._exit?)"
            self.failures.insert(0, Failure(self.early[0], 1, how))

    @property
    def vanished(self) -> list[int]:
        """The replicas that have started, but have not reported their end."""
        return sorted(self.started - self.done - self.ended.keys())

    @property
    def cut_short(self) -> list[int]:
        """The replicas that were killed after their programs had finished.

        The MPI launcher kills them if another replica exited without finalizing MPI. Empty if anything else
        failed.
        """
        whole = len(self.done) == self.size and 0 in self.ended.values() and not self.failures
        return sorted(self.done - self.ended.keys()) if whole else []

    @property
    def first(self) -> Failure | None:
        """The failure that caused the others."""
        causes = [failure for failure in self.failures if not failure.consequence]
        return next(iter(causes or self.failures), None)

    @property
    def consequences(self) -> frozenset[int]:
        """The replicas that failed because another one did, or with the same error as all others."""
        first = self.first
        alike = first.name if first is not None and first.name.endswith(_ALIKE) else None
        return frozenset(f.rank for f in self.failures if f.consequence or f.name == alike)

    @property
    def running(self) -> dict[int, tuple[int, int]]:
        """The running replicas on this machine, with the process IDs of replica and supervisor."""
        return {rank: pids for rank, pids in self.pids.items() if rank not in self.ended}


def signal_name(number: int) -> str:
    """The name of a signal, e.g. ``SIGKILL``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _raised(rank: int, code: int, name: str) -> Failure:
    if name == "SystemExit":
        return Failure(rank, code, f"ended with exit code {code}", name=name)
    short = name.rpartition(".")[2]
    return Failure(rank, code, f"raised {short}", consequence=name.endswith(_CONSEQUENCES), name=name)


def _ended(rank: int, status: int, asked: bool) -> Failure:
    if status < 0:
        how = f"was killed by signal {-status} ({signal_name(-status)})"
        return Failure(rank, 128 - status, how, consequence=asked)
    return Failure(rank, status, f"ended with exit code {status}", consequence=asked)
