"""The table that the processes of a node share: where each stands, and what it brings to the step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from distopt.comm import spin
from distopt.comm.communicator import HEADER_BYTES
from distopt.typing import Array

__all__ = ["Table"]

_NOTE_BYTES = 256
#: Looks at the others' counters before the processor is offered, and offers before Python looks.
_SPINS, _YIELDS = 200, 400


class Table:
    """One row a replica: a counter, two headers (odd and even meetings), a note.

    A meeting is: write the own row, raise the own counter, wait for all counters. Two headers are
    enough, because no replica can be two meetings ahead of another.

    Args:
        block: zero-filled shared bytes, :meth:`room` of them.
        rank: the own row.
        size: the number of rows.
    """

    def __init__(self, block: Array, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self._counters = spin.counters(block, size)
        start = size * spin.STRIDE * 8
        self._headers = block[start : start + 2 * size * HEADER_BYTES].reshape(2, size, HEADER_BYTES)
        start += 2 * size * HEADER_BYTES
        self._notes = block[start : start + size * _NOTE_BYTES].reshape(size, _NOTE_BYTES)
        self._numbers = self._notes[:, :8].view(np.int64)[:, 0]
        self._place = ""
        self._memory = (memoryview(self._headers[0, rank]), memoryview(self._headers[1, rank]))
        self._tables = [memoryview(turn.reshape(-1)) for turn in (self._headers[0], self._headers[1])]
        self._meetings = 0

    @staticmethod
    def room(size: int) -> int:
        """The bytes that a table of ``size`` rows takes."""
        return size * (spin.STRIDE * 8 + 2 * HEADER_BYTES + _NOTE_BYTES)

    def meet(self, header: bytes | None, until: Callable[[Callable[[], bool]], None]) -> list[bytes]:
        """One meeting; ``until`` is called with a test when the others take long.

        Returns:
            the headers by rank, or nothing when ``header`` is None.
        """
        self._meetings += 1
        turn = self._meetings & 1
        if header is not None:
            self._memory[turn][:] = header
        spin.signal(self._counters, self.rank, self._meetings)
        if spin.wait(self._counters, self.size, self._meetings, _SPINS, _YIELDS) >= 0:
            until(self._everyone_came)
        if header is None:
            return []
        rows = bytes(self._tables[turn])
        return [rows[i : i + HEADER_BYTES] for i in range(0, len(rows), HEADER_BYTES)]

    def _everyone_came(self) -> bool:
        return bool(spin.wait(self._counters, self.size, self._meetings, 1, 1) < 0)

    def missing(self) -> list[int]:
        """The replicas that have not come to the current meeting."""
        return [r for r in range(self.size) if spin.arrived(self._counters, r) < self._meetings]

    def note(self, place: str, call: int) -> None:
        """Leaves a place, of at most 247 bytes, and the number of the call in the own row."""
        self._numbers[self.rank] = call
        if place is not self._place:  # the same string object step after step: nothing to write
            self._place = place
            data = place.encode()[: _NOTE_BYTES - 9]
            row = self._notes[self.rank, 8:]
            row[: len(data)] = np.frombuffer(data, np.uint8)
            row[len(data)] = 0

    def notes(self) -> list[str]:
        """Everyone's last note in words, by rank; empty where there is none."""
        texts = [row[8:].tobytes().split(b"\0", 1)[0].decode(errors="replace") for row in self._notes]
        return [f"{t} (call {n})" if t else "" for t, n in zip(texts, self._numbers, strict=True)]
