"""CollectiveLock: lets only one thread of a replica at a time make a collective call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import contextmanager
from time import monotonic_ns, perf_counter_ns
from types import TracebackType
from typing import ParamSpec, TypeVar

from distopt.collectives import CollectiveCheck
from distopt.core.wrappers import named_after
from distopt.distribute.frames import current_frame
from distopt.errors import ReplicaFailed, ReplicaMismatch, ReplicaStalled

__all__ = ["CollectiveLock", "collective_call", "tells_early_errors"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class CollectiveLock:
    """A ``with`` block that only one thread at a time can be in. A thread may enter it repeatedly.

    Without it, the calls of two threads would reach the other replicas in an unpredictable order.

    Args:
        ended: its first item is set to the time at which each call ends, in nanoseconds of the monotonic
            clock.
    """

    def __init__(self, ended: MutableSequence[int]) -> None:
        self._ended = ended
        self._lock = threading.RLock()
        #: The id of the thread that holds the lock, or held it last.
        self._holder = 0
        #: The id of the thread that has ended the program, or 0. Its exit handlers may still make calls.
        self._last = 0

    def __enter__(self) -> None:
        """Starts a call.

        Raises:
            RuntimeError: another thread is in a call, or has ended the program.
        """
        if self._last and self._last != threading.get_ident():
            raise RuntimeError(
                f"{threading.current_thread().name!r} begins a collective call, but this replica's program "
                f"has ended, and so has its part in the job: wait at its end for such threads (thread.join())"
            )
        if not self._lock.acquire(blocking=False):
            names = {thread.ident: thread.name for thread in threading.enumerate()}
            raise RuntimeError(
                f"two threads of this replica are in collective calls at once: while "
                f"{names.get(self._holder, 'another thread')!r} is in one, "
                f"{threading.current_thread().name!r} begins another. All replicas must make their calls in "
                f"the same order: make them in one thread, and hand values to it through a queue"
            )
        self._holder = threading.get_ident()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends a call."""
        self._ended[0] = monotonic_ns()
        self._lock.release()

    @property
    def elsewhere(self) -> bool:
        """Whether the last call was, or is, another thread's."""
        return self._holder not in (0, threading.get_ident())

    @contextmanager
    def last(self) -> Iterator[None]:
        """Holds the lock for the last call of the program. Afterwards other threads cannot start calls.

        It waits for the call that another thread may be in.
        """
        self._last = threading.get_ident()
        with self._lock:
            yield


def collective_call(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorates a function that makes collective calls.

    The replica's thread holds the CollectiveLock during the function. If the function raises before its first
    header, such as for wrong arguments, the other replicas raise ReplicaFailed in their call.
    """

    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        context = current_frame().context
        if context is None:
            return function(*args, **kwargs)
        check = context.collective_check
        headers = check.headers
        spans = context.world.spans
        if spans.armed:
            with context.lock:
                spans.add(("call", function.__name__, perf_counter_ns()))
                try:
                    return function(*args, **kwargs)
                except Exception as error:
                    _tell(check, headers, function.__name__, error)
                    raise
                finally:
                    spans.call_ended()
        if context.comm.size == 1:
            try:
                return function(*args, **kwargs)
            finally:
                context.collective_check.ended[0] = monotonic_ns()
        with context.lock:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                _tell(check, headers, function.__name__, error)
                raise

    return named_after(function, call)


def tells_early_errors(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorates a function that makes several collective calls, between which other threads may make calls.

    If the function raises before its first header, the other replicas raise ReplicaFailed in their call.
    """

    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        context = current_frame().context
        if context is None or context.comm.size == 1:
            return function(*args, **kwargs)
        check = context.collective_check
        headers = check.headers
        try:
            return function(*args, **kwargs)
        except Exception as error:
            _tell(check, headers, function.__name__, error)
            raise

    return named_after(function, call)


def _tell(check: CollectiveCheck, headers: int, call: str, error: Exception) -> None:
    """Sends an error to the other replicas, unless the call has exchanged a header before it.

    Args:
        check: the headers of the replica.
        headers: the number of headers before the call.
        call: its name.
        error: the error of this replica.
    """
    if check.headers == headers and not isinstance(error, (ReplicaFailed, ReplicaMismatch, ReplicaStalled)):
        check.check(call, 0, lambda: call, error)
