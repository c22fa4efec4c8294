"""The table at which the processes of a node meet, each with what it brings to the step."""

from __future__ import annotations

from collections.abc import Callable

from distopt.comm import spin
from distopt.comm.communicator import HEADER_BYTES, Code
from distopt.typing import Array

__all__ = ["Table"]


class Table:
    """One row a replica: a counter and two headers (odd and even meetings).

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
        self._memory = (memoryview(self._headers[0, rank]), memoryview(self._headers[1, rank]))
        self._tables = [memoryview(turn.reshape(-1)) for turn in (self._headers[0], self._headers[1])]
        self._meetings = 0

    @staticmethod
    def room(size: int) -> int:
        """The bytes that a table of ``size`` rows takes."""
        return size * (spin.STRIDE * 8 + 2 * HEADER_BYTES)

    def meet(self, header: bytes | None, until: Callable[[Callable[[], bool]], None]) -> list[bytes]:
        """One meeting; ``until`` is called with a test when the others take long.

        Returns:
            the headers by rank, or nothing when ``header`` is None.
        """
        self._meetings += 1
        turn = self._meetings & 1
        if header is not None:
            self._memory[turn][:] = header
        if spin.meet(self._counters, self.rank, self.size, self._meetings, spin.SPINS, spin.YIELDS) >= 0:
            until(self._everyone_came)
        if header is None:
            return []
        rows = bytes(self._tables[turn])
        if rows == header * self.size:
            return [header] * self.size
        return [rows[i : i + HEADER_BYTES] for i in range(0, len(rows), HEADER_BYTES)]

    def run(self, code: Code, parts: int, until: Callable[[Callable[[], bool]], None]) -> None:
        """Runs compiled code that makes the meetings between its parts by itself, without headers.

        Args:
            code: the code.
            parts: how many there are.
            until: as for :meth:`meet`.
        """
        start = self._meetings
        part = code(self._counters, start, 0, parts)
        while part < parts:
            self._meetings = start + part
            until(self._everyone_came)
            part = code(self._counters, start, part, parts)
        self._meetings = start + parts - 1

    def _everyone_came(self) -> bool:
        return bool(spin.wait(self._counters, self.size, self._meetings, 1, 1) < 0)
