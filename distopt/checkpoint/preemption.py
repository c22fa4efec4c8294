"""The wish to end: a signal that asks the program to save and go."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable
from types import FrameType

__all__ = ["EXIT_CODE", "asked", "forget", "listen"]

#: 128 + SIGTERM, what a shell says of a program that this signal ended.
EXIT_CODE = 143

_asked = threading.Event()


def listen(signals: Iterable[int]) -> None:
    """From now on these signals ask, and do nothing else.

    Raises:
        ValueError: this is not the main thread, which alone may say what signals do.
    """
    for number in signals:
        signal.signal(number, _note)


def asked() -> bool:
    """Whether such a signal has come to this process."""
    return _asked.is_set()


def forget() -> None:
    """Takes the wish as fulfilled."""
    _asked.clear()


def _note(_number: int, _frame: FrameType | None) -> None:
    _asked.set()
