"""From the start of an MPI program to its end, also a bad one.

An exception that nobody catches ends the whole job, with its traceback; a program that ends while
other replicas still wait for it tells them so. What becomes of a child that was forked is nobody's business.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from distopt.comm import drain, flush, say
from distopt.errors import ReplicaFailed, ReplicaMismatch
from distopt.launched import by_distoptrun, launched
from distopt.settings import settings
from distopt.tracebacks import report_error

if TYPE_CHECKING:
    from distopt.distribute.replica_strategy import MPIStrategy

__all__ = ["adopt", "adopted", "install"]


#: How long a replica leaves it to the one that caused its error, or to the first one, to show it.
_CAUSE_SECONDS, _FIRST_SECONDS = 2.0, 0.5


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
    _defer(error)
    launch = launched()
    if launch is not None and launch.rank is not None and not by_distoptrun():
        say(f"distopt: process {launch.rank} of {launch.size} raised {kind.__name__}, which ends the job")
    try:
        _show_exception(kind, error, trace)
    except BaseException:  # a custom hook; the job must end all the same
        traceback.print_exc()
        traceback.print_exception(kind, error, trace)
    drain()
    mpi = sys.modules.get("mpi4py.MPI")
    code = 130 if issubclass(kind, KeyboardInterrupt) else 1
    if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what MPI adds would hide the traceback
        mpi.COMM_WORLD.Abort(code)
    os._exit(code)


def _defer(error: BaseException) -> None:
    """Gives another replica the time to show the error, and to end the job, so that it is shown once.

    An error that another replica has caused is that replica's to show; one that all have is the first's.
    """
    launch = launched()
    if launch is None or by_distoptrun() or isinstance(error, KeyboardInterrupt):
        return
    if isinstance(error, ReplicaFailed):
        time.sleep(_CAUSE_SECONDS)
    elif launch.rank:
        time.sleep(_FIRST_SECONDS)


def _show_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if _program.previous_hook is sys.__excepthook__:
        report_error(error, trace)
    else:
        _program.previous_hook(kind, error, trace)


def _forked() -> None:
    """A child that was forked has no part in the job, and ends as any program does."""
    _program.strategy = None
    atexit.unregister(_finish)
    if sys.excepthook is _abort_on_exception:
        sys.excepthook = _show_exception


def install() -> None:
    """Makes an uncaught exception end the job, if a launcher has started several processes.

    Its traceback is shown without the frames inside distopt.
    """
    os.register_at_fork(after_in_child=_forked)
    launch = launched()
    _program.previous_hook = sys.excepthook
    several = launch is not None and launch.size > 1
    sys.excepthook = _abort_on_exception if several else _show_exception
    if not settings().abort_on_exception:  # a wrong setting is shown by the hook already
        sys.excepthook = _show_exception
