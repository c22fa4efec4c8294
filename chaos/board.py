"""A file in which replicas write their progress, for the fault injection to read: no messages, no locks."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PHASES", "Board", "Row"]

#: What a replica may be doing.
PHASES = ("none", "start", "computing", "collective", "saving", "end")
_ROW = struct.Struct("qqqq")


@dataclass(frozen=True)
class Row:
    """One replica: its PID, its number of starts, its current phase, its number of steps."""

    pid: int
    starts: int
    phase: str
    steps: int


class Board:
    """The rows of ``size`` replicas in a file.

    Args:
        path: the file; created if missing.
        size: the number of replicas.
    """

    def __init__(self, path: Path, size: int) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            os.ftruncate(descriptor, size * _ROW.size)
            self._memory = mmap.mmap(descriptor, size * _ROW.size)
        finally:
            os.close(descriptor)
        self.size = size

    def __getitem__(self, replica: int) -> Row:
        pid, starts, phase, steps = _ROW.unpack_from(self._memory, replica * _ROW.size)
        return Row(pid, starts, PHASES[phase], steps)

    def start(self, replica: int) -> None:
        """Records that a replica's process has started."""
        self._put(replica, 0, os.getpid())
        self._put(replica, 1, self[replica].starts + 1)
        self.set_phase(replica, "start")

    def set_phase(self, replica: int, phase: str) -> None:
        """Records what a replica is doing."""
        self._put(replica, 2, PHASES.index(phase))

    def set_steps(self, replica: int, steps: int) -> None:
        """Records the number of steps of a replica."""
        self._put(replica, 3, steps)

    def _put(self, replica: int, column: int, value: int) -> None:
        struct.pack_into("q", self._memory, replica * _ROW.size + 8 * column, value)
