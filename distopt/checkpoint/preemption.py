"""The wish to end: a signal that asks the program to save and go."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any

__all__ = ["EXIT_CODE", "asked", "forget", "listen", "release"]

#: 128 + SIGTERM, what a shell says of a program that this signal ended.
EXIT_CODE = 143

# Process-wide, as signal handlers are. Not a threading.Event, whose lock a second signal would wait for
# within the first one's handler.
_asked = False


def listen(signals: Iterable[int]) -> dict[int, Any]:
    """From now on these signals ask, and do nothing else.

    Returns:
        what they did before, for :func:`release`.

    Raises:
        ValueError: this is not the main thread, which alone may say what signals do.
    """
    return {number: signal.signal(number, _note) for number in signals}


def release(before: Mapping[int, Any]) -> None:
    """The signals do again what they did before."""
    for number, handler in before.items():
        if signal.getsignal(number) is _note:
            signal.signal(number, handler)


def asked() -> bool:
    """Whether such a signal has come to this process."""
    return _asked


def forget() -> None:
    """Takes the wish as fulfilled."""
    global _asked
    _asked = False


def _note(_number: int, _frame: FrameType | None) -> None:
    global _asked
    _asked = True
