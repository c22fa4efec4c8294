"""The status board: shared memory in which the processes of a node record what they are doing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distopt.comm.forks import forks, require_own_process
from distopt.typing import Array

__all__ = ["ReplicaStatus", "StatusBoard"]

_ROW = np.dtype([("call", "i8"), ("step", "i8"), ("since", "f8"), ("pid", "i8"), ("place", "S232")])


@dataclass(frozen=True)
class ReplicaStatus:
    """What one replica is doing.

    Attributes:
        place: its last collective call and that call's source line; empty before the first one.
        call: the number of that call.
        step: how many optimizer steps it has begun.
        waited: seconds that it has been waiting for others; None if it does not wait, or is stopped.
        stopped: whether its process is stopped: by SIGSTOP, a debugger, or a batch system.
    """

    place: str
    call: int
    step: int
    waited: float | None
    stopped: bool = False

    def __str__(self) -> str:
        if not self.place:
            return "no collective call yet"
        steps = f"step {self.step}, " if self.step else ""
        return f"{self.place} ({steps}call {self.call})"


class StatusBoard:
    """One row per process. Each process writes its own row; all of them read.

    A reader may see a row that is only partly written, so use it only for messages to people.

    Args:
        block: zero-filled shared bytes, :meth:`room` of them.
        row: the row of this process.
        size: the number of rows.

    Attributes:
        remark: returns a sentence that this process adds to a message about a long wait.
    """

    def __init__(self, block: Array, row: int, size: int) -> None:
        self.row, self.size = row, size
        self._rows = block[: size * _ROW.itemsize].view(_ROW)
        own = self._rows[row : row + 1]
        self._call, self._step, self._since, pid, self._text = (own[name] for name in _ROW.names or ())
        self._pid = pid[0] = os.getpid()
        self._place = ""
        self.remark: Callable[[], str] = str

    @staticmethod
    def room(size: int) -> int:
        """The number of bytes of ``size`` rows."""
        return size * _ROW.itemsize

    def write(self, place: str, call: int, step: int) -> None:
        """See StatusWriter. A place that is too long for the row is cut."""
        if forks:
            require_own_process(self._pid)
        self._call[0] = call
        self._step[0] = step
        if place is not self._place:  # usually the same string object at each step
            self._place = place
            self._text[0] = place.encode()

    def add_remark(self, remark: Callable[[], str]) -> None:
        """See StatusWriter."""
        self.remark = remark

    def wait_began(self) -> None:
        """Records that this process starts to wait."""
        self._since[0] = time.monotonic()  # one clock for all processes of a machine

    def wait_ended(self) -> None:
        """Records that this process has stopped waiting."""
        self._since[0] = 0.0

    def read(self) -> list[ReplicaStatus]:
        """The status of each process, by row."""
        now = time.monotonic()
        statuses = []
        for call, step, since, pid, place in self._rows.tolist():
            stopped = _stopped(pid)
            waited = max(now - since, 0.0) if since and not stopped else None
            statuses.append(ReplicaStatus(place.decode(errors="replace"), call, step, waited, stopped))
        return statuses


def _stopped(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] in "Tt"
