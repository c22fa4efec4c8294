"""Writes to standard output and error without loss and without blocking."""

from __future__ import annotations

import errno
import os
import select
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from .standard_streams import ERR, OUT, same_file

#: How many bytes a descriptor that is ready accepts without blocking, even in blocking mode.
_PIECE = select.PIPE_BUF
#: Writes are merged until they have this many bytes.
_BLOCK = 1 << 16


class OutputQueue:
    """Queues for standard output and error, with the bytes that cannot be written at once.

    A descriptor may become blocking or non-blocking at any time, because other processes share it. If both
    descriptors are the same file or terminal, they have one queue, which keeps the order of writes.

    Attributes:
        gone: whether the reader of standard output has exited.
        pending: the number of bytes that are not written yet.
        shared: whether standard output and error are the same file or terminal.
    """

    def __init__(self) -> None:
        self.gone = False
        self.pending = 0
        self.shared = same_file(OUT, ERR)
        out: deque[tuple[int, bytearray]] = deque()
        self._queues = [out] if self.shared else [out, deque()]
        self._whole = {descriptor for descriptor in (OUT, ERR) if _always_ready(descriptor)}
        self._reported: set[int] = set()
        self._gathering = False

    def put(self, descriptor: int, data: bytes) -> None:
        """Writes now if possible, otherwise later."""
        queue = self._queues[0 if self.shared or descriptor == OUT else 1]
        waits = bool(queue)
        if waits and queue[-1][0] == descriptor and len(queue[-1][1]) < _BLOCK:
            queue[-1][1].extend(data)
        else:
            queue.append((descriptor, bytearray(data)))
        self.pending += len(data)
        if not waits and not self._gathering:
            self._advance(queue)

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Merges the writes within a ``with`` block, and makes them at its end."""
        self._gathering = True
        try:
            yield
        finally:
            self._gathering = False
            self.advance()

    @property
    def blocked(self) -> list[int]:
        """The descriptors for which bytes are waiting."""
        return [queue[0][0] for queue in self._queues if queue]

    def advance(self) -> None:
        """Writes what can be written without blocking."""
        for queue in self._queues:
            self._advance(queue)

    def drop(self) -> None:
        """Discards what is still to be written."""
        for queue in self._queues:
            queue.clear()
        self.pending = 0

    def _advance(self, queue: deque[tuple[int, bytearray]]) -> None:
        while queue:
            descriptor, data = queue[0]
            try:
                written = self._write(descriptor, data)
            except OSError as error:
                self._failed(descriptor, error)
                written = len(data)
            self.pending -= written
            if written < len(data):
                del data[:written]
                return
            queue.popleft()

    def _write(self, descriptor: int, data: bytearray) -> int:
        """Writes as much as possible without blocking; returns the number of bytes."""
        whole = descriptor in self._whole
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        written = 0
        with memoryview(data) as view:
            while written < len(view) and (whole or poll.poll(0)):
                try:
                    written += os.write(descriptor, view[written : None if whole else written + _PIECE])
                except BlockingIOError:
                    break
        return written

    def _failed(self, descriptor: int, error: OSError) -> None:
        if descriptor == OUT and error.errno == errno.EPIPE:
            self.gone = True
        elif descriptor == OUT and OUT not in self._reported:
            self._reported.add(OUT)
            text = f"distoptrun: standard output cannot be written, so lines are lost: {error.strerror}\n"
            self.put(ERR, text.encode(errors="replace"))


def _always_ready(descriptor: int) -> bool:
    """Whether a descriptor never blocks, because it is a regular file."""
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        return False
