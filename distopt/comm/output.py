"""Writing messages, also right before a job is ended: what still lies in a pipe then is lost."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from functools import cache

__all__ = ["drain", "flush", "say", "say_once"]

#: After the launcher's local process has read the pipe it passes the text on; that takes a moment.
_PASSED_ON = 0.1


def flush() -> None:
    """Writes out what standard output and errors still hold, if the program has left them in order.

    It may have closed them, or put None or objects of its own there; the end of a job must not fail for that.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


def say(text: str) -> None:
    """Writes text and a line end to standard error, likewise; in one piece, since others may write too."""
    if not text:
        return
    with suppress(Exception):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


@cache
def say_once(text: str) -> None:
    """As :func:`say`, the first time that the text comes up in this process."""
    say(text)


def drain(limit: float = 2.0) -> None:
    """Waits until standard output and errors have been read by whoever holds the other end.

    Args:
        limit: seconds to wait at most.
    """
    end = time.monotonic() + limit
    flush()
    for descriptor in (1, 2):
        while _unread(descriptor) and time.monotonic() < end:
            time.sleep(0.005)
    time.sleep(_PASSED_ON)


def _unread(descriptor: int) -> int:
    """The bytes that lie in a pipe; 0 where there is no pipe, or the system does not tell."""
    try:
        from fcntl import ioctl
        from termios import FIONREAD

        return int.from_bytes(ioctl(descriptor, FIONREAD, bytes(4)), sys.byteorder)
    except (ImportError, OSError):
        return 0
