"""Where the running code stands: which strategy, in which replica, or between replicas.

A stack of frames a thread; below them lies the frame of the process, which is replica context.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distopt.distribute.context import ReplicaContext
    from distopt.distribute.strategy import Strategy

__all__ = ["Frame", "current_frame", "frame", "require_cross_replica", "require_unmixed", "set_process_frame"]


@dataclass(frozen=True)
class Frame:
    """One level of the stack.

    Attributes:
        strategy: the strategy in force.
        context: the replica's context, or None between replicas.
        kind: ``"base"``, ``"scope"``, ``"run"`` or ``"merge"``.
    """

    strategy: Strategy
    context: ReplicaContext | None
    kind: str


class _Stack(threading.local):
    def __init__(self) -> None:
        self.frames: list[Frame] = []


_stack = _Stack()
_process: list[Frame] = []
_make_process: list[Callable[[], Frame]] = []
_lock = threading.Lock()


def set_process_frame(make: Callable[[], Frame]) -> None:
    """Names the function that makes the frame below all stacks, when it is first needed."""
    _make_process[:] = [make]


def current_frame() -> Frame:
    """The innermost frame of this thread."""
    if _stack.frames:
        return _stack.frames[-1]
    if not _process:
        with _lock:
            if not _process:
                _process.append(_make_process[0]())
    return _process[0]


@contextmanager
def frame(strategy: Strategy, context: ReplicaContext | None, kind: str) -> Iterator[None]:
    """Pushes a frame for the time of a ``with`` block."""
    _stack.frames.append(Frame(strategy, context, kind))
    try:
        yield
    finally:
        _stack.frames.pop()


def require_cross_replica(call: str) -> None:
    """Raises RuntimeError inside ``run()``; a program's top level may speak for all replicas."""
    if current_frame().kind == "run":
        raise RuntimeError(
            f"{call}: Method requires being in cross-replica context, use "
            f"get_replica_context().merge_call(); it was called inside Strategy.run()"
        )


def require_unmixed(strategy: Strategy) -> None:
    """Raises RuntimeError where a strategy other than ``strategy`` has been entered."""
    now = current_frame()
    if now.kind != "base" and now.strategy is not strategy:
        raise RuntimeError(
            "Mixing different tf.distribute.Strategy objects: the scope of another strategy is open; "
            "leave it first"
        )
