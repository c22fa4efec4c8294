"""Dispatch of NumPy functions on tensors to the open gradient tapes.

Tensors pass each NumPy call to :func:`call`. If a tape is open, the innermost one records it. Otherwise the
function runs directly on plain arrays. The stack of open tapes is per thread, because replicas may be threads
of one process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Recorder", "active_recorders", "call"]


class Recorder(Protocol):
    """A gradient tape, as this module needs it."""

    def record(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs ``func`` on the arguments and returns its traced result."""


class _Stack(threading.local):
    def __init__(self) -> None:
        self.recorders: list[Recorder] = []


# Global, because NumPy's protocols pass no context; per thread, see above.
_stack = _Stack()


def active_recorders() -> list[Recorder]:
    """The open tapes of this thread, outermost first; the list itself, not a copy."""
    return _stack.recorders


def call(
    eager: Callable[..., Any], func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Runs ``func(*args, **kwargs)`` with the innermost open tape; without one, with ``eager``."""
    recorders = _stack.recorders
    if recorders:
        return recorders[-1].record(func, args, kwargs)
    return eager(func, args, kwargs)
