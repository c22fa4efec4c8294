"""Where replicas stand: rows of words in memory that the processes of a node share."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from distopt.typing import Array

__all__ = ["Note", "Notes"]

_ROW = np.dtype([("call", "i8"), ("step", "i8"), ("since", "f8"), ("place", "S232")])


@dataclass(frozen=True)
class Note:
    """What one replica left word of.

    Attributes:
        place: its last collective call and that call's source line; empty before the first one.
        call: the number of that call.
        step: how many optimizer steps it has begun.
        waited: seconds that it has been waiting for others; None if it does not wait.
    """

    place: str
    call: int
    step: int
    waited: float | None

    def __str__(self) -> str:
        if not self.place:
            return "no collective call yet"
        steps = f"step {self.step}, " if self.step else ""
        return f"{self.place} ({steps}call {self.call})"


class Notes:
    """One row a process; each writes its own, all read.

    A reader may catch a row half written: it is for messages to people, and nothing else.

    Args:
        block: zero-filled shared bytes, :meth:`room` of them.
        row: the own row.
        size: the number of rows.
    """

    def __init__(self, block: Array, row: int, size: int) -> None:
        self.row, self.size = row, size
        self._rows = block[: size * _ROW.itemsize].view(_ROW)
        own = self._rows[row : row + 1]
        self._call, self._step, self._since, self._text = (own[name] for name in _ROW.names or ())
        self._place = ""

    @staticmethod
    def room(size: int) -> int:
        """The bytes that ``size`` rows take."""
        return size * _ROW.itemsize

    def write(self, place: str, call: int, step: int) -> None:
        """Says where this process is; a place longer than a row is cut."""
        self._call[0] = call
        self._step[0] = step
        if place is not self._place:  # the same string object step after step: nothing to write
            self._place = place
            self._text[0] = place.encode()

    def wait(self) -> None:
        """Says that this process waits from now on."""
        self._since[0] = time.monotonic()  # one clock for all processes of a machine

    def go_on(self) -> None:
        """Says that it does not wait any more."""
        self._since[0] = 0.0

    def read(self) -> list[Note]:
        """Everyone's note, by row."""
        now = time.monotonic()
        return [
            Note(place.decode(errors="replace"), call, step, max(now - since, 0.0) if since else None)
            for call, step, since, place in self._rows.tolist()
        ]
