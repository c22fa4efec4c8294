"""From the start of an MPI program to its end, also a bad one.

An exception that nobody catches ends the whole job, with its traceback; a program that ends while
other replicas still wait for it tells them so. What becomes of a child that was forked is nobody's business.
"""

from __future__ import annotations

import atexit
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from distopt.comm import drain, flush, say
from distopt.errors import ReplicaMismatch
from distopt.launched import launched
from distopt.settings import settings

if TYPE_CHECKING:
    from distopt.distribute.replica_strategy import MPIStrategy

__all__ = ["adopt", "adopted", "install"]


@dataclass
class _Program:
    strategy: MPIStrategy | None = None
    failed: bool = False
    previous_hook: Callable[..., Any] = sys.__excepthook__


#: A process is one program: it has one exit and one hook for exceptions, which look here.
_program = _Program()


def adopted() -> MPIStrategy | None:
    """The program's own MPI strategy, or None if none has been made."""
    return _program.strategy


def adopt(strategy: MPIStrategy) -> None:
    """Takes a new MPI strategy into care; the first one becomes the program's own."""
    if _program.strategy is None:
        _program.strategy = strategy
        atexit.register(_finish, strategy)


def _finish(strategy: MPIStrategy) -> None:
    """At the program's normal end: tells replicas that still wait."""
    if _program.failed:
        return
    try:
        strategy.context.finish()
    except ReplicaMismatch as error:
        say(f"distopt: {error}")
        strategy.context.world.abort(1)


def _abort_on_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _program.failed = True
    flush()
    try:
        _program.previous_hook(kind, error, trace)
    except BaseException:  # a hook of the program's own; the job must end all the same
        traceback.print_exc()
        traceback.print_exception(kind, error, trace)
    drain()
    mpi = sys.modules.get("mpi4py.MPI")
    code = 130 if issubclass(kind, KeyboardInterrupt) else 1
    if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        mpi.COMM_WORLD.Abort(code)
    os._exit(code)


def _forked() -> None:
    """A child that was forked has no part in the job, and ends as any program does."""
    _program.strategy = None
    atexit.unregister(_finish)
    if sys.excepthook is _abort_on_exception:
        sys.excepthook = _program.previous_hook


def install() -> None:
    """Makes an uncaught exception end the job, when a launcher started several processes."""
    os.register_at_fork(after_in_child=_forked)
    job = launched()
    if job is not None and job.size > 1 and settings().abort_on_exception:
        _program.previous_hook = sys.excepthook
        sys.excepthook = _abort_on_exception
