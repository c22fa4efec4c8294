"""A barrier in memory that the processes of a node share, which also exchanges headers."""

from __future__ import annotations

from collections.abc import Callable

from distopt.comm import spin
from distopt.comm.communicator import HEADER_BYTES
from distopt.comm.compiled import STRIDE, CompiledCode
from distopt.typing import Array

__all__ = ["SharedBarrier"]


class SharedBarrier:
    """A barrier with one row per replica: a counter, and two headers for odd and even phases.

    In a phase, a replica writes its row, increments its counter, and waits for all counters. Two headers are
    enough, because no replica can be two phases ahead of another.

    Args:
        block: zero-filled shared bytes, :meth:`room` of them.
        rank: the row of this replica.
        size: the number of rows.
    """

    def __init__(self, block: Array, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self._counters = spin.counters(block, size)
        start = size * STRIDE * 8
        headers = block[start : start + 2 * size * HEADER_BYTES].reshape(2, size, HEADER_BYTES)
        self._own = [memoryview(headers[half, rank]) for half in (0, 1)]
        self._all = [memoryview(headers[half].reshape(-1)) for half in (0, 1)]
        self._phase = 0

    @staticmethod
    def room(size: int) -> int:
        """The number of bytes of ``size`` rows."""
        return size * (STRIDE * 8 + 2 * HEADER_BYTES)

    def wait(self, header: bytes | None, wait_until: Callable[[Callable[[], bool]], None]) -> list[bytes]:
        """Waits until all replicas have called it.

        Args:
            header: this replica's header; None on all replicas for a barrier without headers.
            wait_until: called if the others take long, with a function that returns whether all have arrived.

        Returns:
            the headers by rank; an empty list if ``header`` is None.
        """
        phase = self._phase = self._phase + 1
        half = phase & 1
        if header is not None:
            self._own[half][:] = header
        if spin.arrive_and_wait(self._counters, self.rank, self.size, phase, spin.SPINS, spin.YIELDS) >= 0:
            wait_until(self._all_arrived)
        if header is None:
            return []
        rows = bytes(self._all[half])
        if rows == header * self.size:
            return [header] * self.size
        return [rows[i : i + HEADER_BYTES] for i in range(0, len(rows), HEADER_BYTES)]

    def run(self, code: CompiledCode, parts: int, wait_until: Callable[[Callable[[], bool]], None]) -> None:
        """Runs compiled code that waits at the barriers between its parts itself.

        Args:
            code: the code.
            parts: the number of parts.
            wait_until: as for :meth:`wait`.
        """
        start = self._phase
        part = code(self._counters, start, 0, parts)
        while part < parts:
            self._phase = start + part
            wait_until(self._all_arrived)
            part = code(self._counters, start, part, parts)
        self._phase = start + parts - 1

    def _all_arrived(self) -> bool:
        return bool(spin.wait(self._counters, self.size, self._phase, 1, 1) < 0)
