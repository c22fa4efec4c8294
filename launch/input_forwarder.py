"""Forwards standard input to replica 0."""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Callable

from .standard_streams import IN

_CHUNK = 1 << 16
_RETRY = 0.5  # seconds until a terminal that belongs to another process group is checked again


class InputForwarder:
    """Forwards standard input to replica 0, and reads it no faster than replica 0 does.

    Nothing is read before replica 0 has started. Input that replica 0 does not read stays in standard input,
    except for as much as fits into a pipe.

    Args:
        on_line: called when a line has been read from a terminal.
    """

    def __init__(self, on_line: Callable[[], None]) -> None:
        self._on_line = on_line
        self._writer = -1
        self._data = b""
        self._terminal = os.isatty(IN)
        self._retry_at = 0.0

    @property
    def open(self) -> bool:
        """Whether more input may come."""
        return self._writer >= 0

    def begin(self, writer: int) -> None:
        """Starts forwarding to a descriptor, which is closed at the end of the input."""
        self.close()
        os.set_blocking(writer, False)
        self._writer = writer

    def close(self) -> None:
        """Stops forwarding. Input that was not read stays in standard input."""
        if self.open:
            os.close(self._writer)
        self._writer, self._data = -1, b""

    @property
    def waits_for(self) -> tuple[int, int] | None:
        """The descriptor and the `selectors` event at which to call `proceed`; None for none now."""
        if not self.open:
            return None
        if self._data:
            return self._writer, selectors.EVENT_WRITE
        if time.monotonic() < self._retry_at:
            return None
        if self._terminal and not _in_foreground():
            self._retry_at = time.monotonic() + _RETRY
            return None
        return IN, selectors.EVENT_READ

    @property
    def wait(self) -> float:
        """Seconds until `waits_for` may change without an event; infinity for never."""
        left = self._retry_at - time.monotonic()
        return max(0.0, left) if self.open and not self._data and left > 0 else float("inf")

    def proceed(self) -> None:
        """Reads or writes what it can without blocking."""
        try:
            if not self._data:
                self._data = self._read()
                if not self._data:
                    self.close()
                    return
                if self._terminal and self._data.endswith(b"\n"):
                    self._on_line()
            self._data = self._data[os.write(self._writer, self._data) :]
        except BlockingIOError:
            return
        except OSError:  # replica 0 has closed its input, or the terminal is gone
            self.close()

    def _read(self) -> bytes:
        if not self._terminal:
            return os.read(IN, _CHUNK)
        # If this process has just moved to the background, reading now fails, instead of stopping the
        # process.
        before = signal.signal(signal.SIGTTIN, signal.SIG_IGN)
        try:
            return os.read(IN, _CHUNK)
        except OSError:
            if _in_foreground():
                raise
            raise BlockingIOError from None
        finally:
            signal.signal(signal.SIGTTIN, before)


def _in_foreground() -> bool:
    """Whether this process may read the terminal; in the background, reading would stop it."""
    try:
        return os.tcgetpgrp(IN) == os.getpgrp()
    except OSError:
        return True  # not the controlling terminal, so reading cannot stop this process
