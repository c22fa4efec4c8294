"""Collects signals to the launcher, for the event loop of the job."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Signals that end the job.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Signals that are forwarded to the program. Batch systems send them before the time limit of a job.
FORWARDED = (signal.SIGUSR1, signal.SIGUSR2)
_CAUGHT = (*ENDING, *FORWARDED, signal.SIGTSTP, signal.SIGCONT)


def ignored() -> tuple[int, ...]:
    """The signals that were ignored when this process started, such as SIGHUP with ``nohup``."""
    return tuple(number for number in _CAUGHT if signal.getsignal(number) == signal.SIG_IGN)


def ignore(numbers: str) -> None:
    """Ignores signals in this process and its children.

    Args:
        numbers: comma-separated, the result of `ignored` in another process.
    """
    for word in numbers.split(","):
        if word.isdigit() and int(word) in _CAUGHT:
            signal.signal(int(word), signal.SIG_IGN)


class PendingSignals:
    """The signals that have arrived, in a pipe that a selector can wait for."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self.writer, False)

    def take(self) -> list[int]:
        """The signals since the last call, without SIGCHLD."""
        try:
            return [number for number in os.read(self.reader, 1 << 12) if number in _CAUGHT]
        except BlockingIOError:
            return []


@contextmanager
def caught() -> Iterator[PendingSignals]:
    """Collects signals during a ``with`` block. Signals that were ignored stay ignored."""

    def nothing(_number: int, _frame: FrameType | None) -> None:
        pass

    pending = PendingSignals()
    numbers = [number for number in _CAUGHT if number not in ignored()]
    before = {number: signal.signal(number, nothing) for number in (*numbers, signal.SIGCHLD)}
    wakeup = signal.set_wakeup_fd(pending.writer, warn_on_full_buffer=False)
    try:
        yield pending
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        os.close(pending.reader)
        os.close(pending.writer)
