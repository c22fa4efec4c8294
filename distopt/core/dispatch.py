"""How a NumPy function finds the tapes that record it.

Every tensor of distopt hands NumPy's calls to :func:`call`. With no tape open the function runs
at once on plain arrays; with tapes open, the innermost one records it. The stack of open tapes
belongs to the thread, because replicas may be threads of one process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Recorder", "active_recorders", "call"]


class Recorder(Protocol):
    """Something that runs a function and remembers how: a gradient tape."""

    def record(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs ``func`` on the arguments and returns its traced result."""


class _Stack(threading.local):
    def __init__(self) -> None:
        self.recorders: list[Recorder] = []


# Process-wide, with a stack for each thread: NumPy hands over a call without saying under which tape.
_stack = _Stack()


def active_recorders() -> list[Recorder]:
    """The open tapes of this thread, outermost first; the list itself, not a copy."""
    return _stack.recorders


def call(
    eager: Callable[..., Any], func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Runs ``func(*args, **kwargs)``: recorded by the innermost open tape, else by ``eager``."""
    recorders = _stack.recorders
    if recorders:
        return recorders[-1].record(func, args, kwargs)
    return eager(func, args, kwargs)
