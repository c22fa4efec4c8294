"""The stack of frames that says in which strategy and in which replica the code runs.

The stack is a context variable, so a thread that runs in a copy of its starter's context
(``contextvars.copy_context().run``) has the same frames. At the bottom is the frame of the process, which is
in replica context.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distopt.distribute.context import ReplicaContext
    from distopt.distribute.strategy import Strategy

__all__ = [
    "Frame",
    "current_frame",
    "frame",
    "get_replica_context",
    "get_strategy",
    "in_cross_replica_context",
    "require_cross_replica",
    "require_replica_context",
    "require_unmixed",
    "set_process_frame",
    "thread_replicas",
]


@dataclass(frozen=True)
class Frame:
    """One level of the stack.

    Attributes:
        strategy: the active strategy.
        context: the replica's context; None in cross-replica context.
        kind: ``"base"``, ``"scope"``, ``"run"`` or ``"merge"``.
    """

    strategy: Strategy
    context: ReplicaContext | None
    kind: str


@dataclass
class _Process:
    """The state that all threads of the process share.

    Attributes:
        make: creates the frame of the process.
        frame: the frame of the process, once it has been needed.
        thread_counts: the number of replicas of each unfinished run that has replicas as threads.
        lock: held while the frame is created.
    """

    make: Callable[[], Frame] | None = None
    frame: Frame | None = None
    thread_counts: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


#: The stack of the current thread or asyncio task, without the frame of the process.
_frames: ContextVar[tuple[Frame, ...]] = ContextVar("distopt_frames", default=())
#: Global, because threads without a stack of their own use the frame of the process.
_process = _Process()


def set_process_frame(make: Callable[[], Frame]) -> None:
    """Sets the function that creates the frame of the process when it is first needed."""
    _process.make = make


def current_frame() -> Frame:
    """The innermost frame of this thread.

    Raises:
        RuntimeError: called in a thread that belongs to no replica, while several replicas run in this
            process.
    """
    frames = _frames.get()
    if frames:
        return frames[-1]
    if _process.thread_counts and threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            f"thread {threading.current_thread().name!r} belongs to no replica, while "
            f"{max(_process.thread_counts)} replicas run as threads of this process: start it in a copy of "
            f"its replica's context, e.g. "
            f"threading.Thread(target=contextvars.copy_context().run, args=(function,))"
        )
    if _process.frame is None:
        with _process.lock:
            if _process.frame is None:
                assert _process.make is not None
                _process.frame = _process.make()
    return _process.frame


def get_replica_context() -> ReplicaContext | None:
    """Returns the context of the current replica, or None in cross-replica context."""
    return current_frame().context


def in_cross_replica_context() -> bool:
    """Whether the code runs in cross-replica context: inside ``scope()`` or ``merge_call``."""
    return current_frame().context is None


def get_strategy() -> Strategy:
    """Returns the active strategy. Without one, returns the default strategy of one replica."""
    return current_frame().strategy


@contextmanager
def frame(strategy: Strategy, context: ReplicaContext | None, kind: str) -> Iterator[None]:
    """Pushes a frame for the duration of a ``with`` block."""
    before = _frames.get()
    _frames.set((*before, Frame(strategy, context, kind)))
    try:
        yield
    finally:
        if _frames.get():  # a child that was forked within the block has an empty stack, see _forked
            _frames.set(before)


@contextmanager
def thread_replicas(replicas: int) -> Iterator[None]:
    """Declares that ``replicas`` replicas run as threads of this process, for the time of a ``with`` block.

    Threads without frames then belong to no replica, and collective calls in them raise RuntimeError.
    """
    if replicas > 1:
        _process.thread_counts.append(replicas)
    try:
        yield
    finally:
        if replicas > 1 and _process.thread_counts:
            _process.thread_counts.remove(replicas)


def _forked() -> None:
    """In a forked child, which is not in any replica: its first use creates a new frame of the process."""
    _frames.set(())
    _process.frame, _process.lock = None, threading.Lock()
    _process.thread_counts.clear()


os.register_at_fork(after_in_child=_forked)


def require_replica_context(call: str, instead: str = "") -> ReplicaContext:
    """Returns the context of the replica in which this code runs.

    Args:
        call: the name of the user's call, for the message.
        instead: an alternative for the user, for the message.

    Raises:
        RuntimeError: called in cross-replica context.
    """
    context = current_frame().context
    if context is None:
        raise RuntimeError(
            f"{call} was called in cross-replica context (strategy.scope() or merge_call), where there is no "
            f"current replica: call it in each replica, outside of the scope or in Strategy.run"
            + (f", or {instead}" if instead else "")
        )
    return context


def require_cross_replica(call: str) -> None:
    """Raises RuntimeError inside ``run()``. The top level of a program is allowed, as in tf.distribute."""
    frames = _frames.get()
    if frames and frames[-1].kind == "run":
        raise RuntimeError(
            f"{call}: Method requires being in cross-replica context, use "
            f"get_replica_context().merge_call(); it was called inside Strategy.run()"
        )


def require_unmixed(strategy: Strategy) -> None:
    """Raises RuntimeError inside the scope or ``run()`` of a strategy other than ``strategy``."""
    frames = _frames.get()
    if frames and frames[-1].kind != "base" and frames[-1].strategy is not strategy:
        raise RuntimeError(
            "Mixing different tf.distribute.Strategy objects: the scope of another strategy is open: exit "
            "it first"
        )
