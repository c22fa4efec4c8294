"""What happens at the end of a program that is a replica.

An uncaught exception ends the whole job, and its traceback is shown once. At its normal end, a program
reports this to replicas that still wait for it. Forked children do neither.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from distopt.collectives import Report, closing_words
from distopt.comm import abort_job, flush, say
from distopt.distribute.telemetry import tell
from distopt.errors import ReplicaFailed, ReplicaMismatch
from distopt.launched import by_distoptrun, launched
from distopt.settings import settings
from distopt.tracebacks import place_of, report_error

if TYPE_CHECKING:
    from distopt.distribute.replica_strategy import MPIStrategy

__all__ = ["adopt", "adopted", "give_way", "install"]

#: How long a replica waits for the replica that caused its error, or for replica 0, to show the error.
_CAUSE_SECONDS, _FIRST_SECONDS = 2.0, 0.5


@dataclass
class _Program:
    """The state of this process.

    Attributes:
        strategy: its first MPI strategy.
        failed: whether an uncaught exception is ending it.
        previous_hook: ``sys.excepthook`` before :func:`install`.
        previous_thread_hook: ``threading.excepthook`` before :func:`install`.
    """

    strategy: MPIStrategy | None = None
    failed: bool = False
    previous_hook: Callable[..., Any] = sys.__excepthook__
    previous_thread_hook: Callable[..., Any] = threading.__excepthook__


#: Global, because a process has only one exit and one exception hook.
_program = _Program()


def adopted() -> MPIStrategy | None:
    """The first MPI strategy of this process, which is that of its top level; None if there is none."""
    return _program.strategy


def adopt(strategy: MPIStrategy) -> None:
    """Makes a new MPI strategy that of the top level, and finishes it at exit, if it is the first one."""
    if _program.strategy is None:
        _program.strategy = strategy
        atexit.register(_finish, strategy)


def _finish(strategy: MPIStrategy) -> None:
    """At the normal end of the program: reports the end to replicas that still wait for this one.

    Those raise ReplicaMismatch with the lines of their calls. If their programs do not catch it, they end the
    job. Replica 0 also prints which replicas the others waited for.
    """
    if _program.failed:
        return
    context = strategy.context
    try:
        context.finish()
    except ReplicaMismatch as error:
        time.sleep(_CAUSE_SECONDS)
        say(f"distopt: {error}")
        abort_job(1)
    ledger = context.collective_check.ledger
    if ledger is not None and ledger.rank == 0 and strategy.options.stragglers:
        with suppress(Exception):  # the program has succeeded, and must not fail because of this message
            check = context.collective_check
            words = closing_words(Report.of(ledger, check.calls, check.steps))
            say(words)
            tell(context, "finding", text=words.removeprefix("distopt: "))


def _abort_on_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _program.failed = True
    with suppress(ValueError):  # raised if this is not the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program is ending already
    flush()
    launch, interrupted = launched(), issubclass(kind, KeyboardInterrupt)
    selected_later = by_distoptrun()  # distoptrun gets the errors of all replicas, and shows the cause only
    if launch is not None and not selected_later:
        give_way(error, launch.rank or 0)
    try:
        if selected_later:
            _show_exception(kind, error, trace)
        elif interrupted and _program.previous_hook is sys.__excepthook__:
            say(f"distopt: {_process()}interrupted at {place_of(trace) or 'its start'}")
        else:
            say(f"distopt: {_process()}raised {kind.__name__}, which ends the job")
            _show_exception(kind, error, trace)
    except BaseException:  # the hook of the program raised; the job must end nevertheless
        traceback.print_exc()
        traceback.print_exception(kind, error, trace)
    flush()
    if _program.strategy is not None:
        with suppress(Exception):  # atexit functions will not run
            _program.strategy.context.world.spans.send()
    if selected_later:
        # So that other replicas that raise can write their errors to their log files.
        time.sleep(_FIRST_SECONDS)
    abort_job(130 if interrupted else 1)


def give_way(error: BaseException, process: int) -> None:
    """Waits, so that another process can show the error and end the job before this one does.

    If another replica caused the error, that replica should show it. If all replicas have the same error,
    replica 0 should.

    Args:
        error: the error of this process.
        process: the number of this process.
    """
    if isinstance(error, ReplicaFailed):
        time.sleep(_CAUSE_SECONDS)
    elif process:
        time.sleep(_FIRST_SECONDS)


def _process() -> str:
    launch = launched()
    return f"process {launch.rank} of {launch.size} " if launch and launch.rank is not None else ""


def _show_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if _program.previous_hook is sys.__excepthook__:
        report_error(error, trace)
    else:
        _program.previous_hook(kind, error, trace)


def _show_thread_exception(args: threading.ExceptHookArgs) -> None:
    """Shows an uncaught exception of a thread. As in Python, the program continues."""
    error, trace, previous = args.exc_value, args.exc_traceback, _program.previous_thread_hook
    if error is None or isinstance(error, SystemExit) or previous is not threading.__excepthook__:
        previous(args)
        return
    while trace is not None and trace.tb_frame.f_code.co_filename == threading.__file__:
        trace = trace.tb_next
    name = args.thread.name if args.thread is not None else "unknown"
    report_error(error, trace, f"Exception in thread {name}:")


def _forked() -> None:
    """In a forked child, which is not part of the job: removes the exit handler and the end of the job."""
    _program.strategy = None
    atexit.unregister(_finish)
    if sys.excepthook is _abort_on_exception:
        sys.excepthook = _show_exception


def install() -> None:
    """Makes an uncaught exception end the job, if a launcher has started several processes.

    Tracebacks, those of threads too, are shown without the frames inside distopt.
    """
    os.register_at_fork(after_in_child=_forked)
    launch = launched()
    # Not the temporary hook of distopt/__init__.py.
    if getattr(sys.excepthook, "__module__", "") != "distopt":
        _program.previous_hook = sys.excepthook
    _program.previous_thread_hook = threading.excepthook
    threading.excepthook = _show_thread_exception
    several = launch is not None and launch.size > 1
    sys.excepthook = _abort_on_exception if several else _show_exception
    if not settings().abort_on_exception:  # last, so that an error in the settings is shown by the new hook
        sys.excepthook = _show_exception
