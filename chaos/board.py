"""A file that replicas write where they are into, and whoever makes faults reads: no message, no lock."""

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
    """One replica: its process, how often it was started, what it does, how many steps it has made."""

    pid: int
    starts: int
    phase: str
    steps: int


class Board:
    """The rows of ``size`` replicas in a file.

    Args:
        path: the file; made if it is not there.
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

    def come(self, replica: int) -> None:
        """A replica's process has begun."""
        self._put(replica, 0, os.getpid())
        self._put(replica, 1, self[replica].starts + 1)
        self.do(replica, "start")

    def do(self, replica: int, phase: str) -> None:
        """What it does now."""
        self._put(replica, 2, PHASES.index(phase))

    def at(self, replica: int, steps: int) -> None:
        """The steps that it has made."""
        self._put(replica, 3, steps)

    def _put(self, replica: int, column: int, value: int) -> None:
        struct.pack_into("q", self._memory, replica * _ROW.size + 8 * column, value)
