"""Writes messages, also right before the end of a job, when unread data in a pipe would be lost."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from functools import cache

__all__ = ["drain", "flush", "say", "say_once"]

#: Seconds that the launcher needs to forward text that its local process has read from the pipe.
_FORWARDING = 0.1


def flush() -> None:
    """Flushes standard output and standard error, if the program has left them usable.

    The program may have closed or replaced them; the end of a job must not fail because of that.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


def say(text: str) -> None:
    """Writes a line to standard error, in one piece, because others may write too."""
    if not text:
        return
    with suppress(Exception):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


@cache
def say_once(text: str) -> None:
    """Like :func:`say`, but writes each text only once per process."""
    say(text)


def drain(limit: float = 2.0) -> None:
    """Waits until the reader has read all of standard output and standard error.

    Args:
        limit: the maximum number of seconds to wait.
    """
    end = time.monotonic() + limit
    flush()
    for descriptor in (1, 2):
        while _unread(descriptor) and time.monotonic() < end:
            time.sleep(0.005)
    time.sleep(_FORWARDING)


def _unread(descriptor: int) -> int:
    """The number of unread bytes in a pipe; 0 if it is no pipe, or if the system does not tell."""
    try:
        from fcntl import ioctl
        from termios import FIONREAD

        return int.from_bytes(ioctl(descriptor, FIONREAD, bytes(4)), sys.byteorder)
    except (ImportError, OSError):
        return 0
