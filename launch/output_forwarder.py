"""Forwards a replica's output to a launcher on another machine."""

from __future__ import annotations

import os
import select

from .protocol import records

_CHUNK = 1 << 16


class OutputForwarder:
    """Forwards output and events of the replica, as records, to this process's standard output.

    The MPI launcher forwards this standard output to distoptrun.

    Args:
        rank: the replica's rank.

    Attributes:
        readers: the read ends of the replica's pipes: descriptor -> ``out``, ``err`` or ``events``.
        ends: the write ends, in this order.
    """

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self.readers: dict[int, str] = {}
        ends = []
        for stream in ("out", "err", "events"):
            reader, writer = os.pipe()
            self.readers[reader] = stream
            ends.append(writer)
        self.ends = (ends[0], ends[1], ends[2])

    def close_readers(self) -> None:
        """Closes the read ends; for the replica, which does not need them."""
        for reader in self.readers:
            os.close(reader)

    def pump(self, reader: int) -> bool:
        """Forwards what is available; False at the end of the stream."""
        data = os.read(reader, _CHUNK)
        if data:
            self.send(self.readers[reader], data)
        return bool(data)

    def send(self, stream: str, data: bytes) -> None:
        """Writes bytes of a stream to standard output, as records."""
        for record in records(self._rank, stream, data):
            _write(record)


def _write(record: bytes) -> None:
    """Writes a whole record to the MPI launcher's pipe, which may be non-blocking."""
    while True:
        try:
            os.write(1, record)
            return
        except BlockingIOError:
            select.select([], [1], [])
