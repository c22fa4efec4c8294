"""From the start of an MPI program to its end, also a bad one.

An uncaught exception ends the whole job, with its traceback. A program that ends while other replicas still
wait for it tells them so. Forked child processes are ignored.
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
from distopt.distribute.told import tell
from distopt.errors import ReplicaFailed, ReplicaMismatch
from distopt.launched import by_distoptrun, launched
from distopt.settings import settings
from distopt.tracebacks import place_of, report_error

if TYPE_CHECKING:
    from distopt.distribute.replica_strategy import MPIStrategy

__all__ = ["adopt", "adopted", "give_way", "install"]

#: How long a replica leaves it to the one that caused its error, or to the first one, to show it.
_CAUSE_SECONDS, _FIRST_SECONDS = 2.0, 0.5


@dataclass
class _Program:
    strategy: MPIStrategy | None = None
    failed: bool = False
    previous_hook: Callable[..., Any] = sys.__excepthook__
    previous_thread_hook: Callable[..., Any] = threading.__excepthook__


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
    """At the program's normal end: tells replicas that still wait.

    It is they who show it, with their lines, and end the job, unless the program catches it there.
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
        with suppress(Exception):  # the program has ended well, and must not fail for a word
            check = context.collective_check
            words = closing_words(Report.of(ledger, check.calls, check.steps))
            say(words)
            tell(context, "finding", text=words.removeprefix("distopt: "))


def _abort_on_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _program.failed = True
    with suppress(ValueError):  # in another thread than the main one
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end has begun already
    flush()
    launch, interrupted = launched(), issubclass(kind, KeyboardInterrupt)
    sorted_later = by_distoptrun()  # which shows the cause alone
    if launch is not None and not sorted_later:
        give_way(error, launch.rank or 0)
    try:
        if sorted_later:
            _show_exception(kind, error, trace)
        elif interrupted and _program.previous_hook is sys.__excepthook__:
            say(f"distopt: {_process()}interrupted at {place_of(trace) or 'its start'}")
        else:
            say(f"distopt: {_process()}raised {kind.__name__}, which ends the job")
            _show_exception(kind, error, trace)
    except BaseException:  # a custom hook; the job must end all the same
        traceback.print_exc()
        traceback.print_exception(kind, error, trace)
    flush()
    if _program.strategy is not None:
        with suppress(Exception):  # atexit functions will not run
            _program.strategy.context.world.spans.send()
    if sorted_later:
        time.sleep(_FIRST_SECONDS)  # for the log files, which get what others raise by themselves
    abort_job(130 if interrupted else 1)


def give_way(error: BaseException, process: int) -> None:
    """Gives another process the time to show an error, and to end the job, so that it is shown once.

    An error that another replica has caused is that replica's to show; one that all have is the first's.

    Args:
        error: the error of this process.
        process: its number.
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
    """As Python does, which lets the program go on."""
    error, trace, previous = args.exc_value, args.exc_traceback, _program.previous_thread_hook
    if error is None or isinstance(error, SystemExit) or previous is not threading.__excepthook__:
        previous(args)
        return
    while trace is not None and trace.tb_frame.f_code.co_filename == threading.__file__:
        trace = trace.tb_next
    name = args.thread.name if args.thread is not None else "unknown"
    report_error(error, trace, f"Exception in thread {name}:")


def _forked() -> None:
    """A child that was forked has no part in the job, and ends as any program does."""
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
    if getattr(sys.excepthook, "__module__", "") != "distopt":  # that one stood in for this
        _program.previous_hook = sys.excepthook
    _program.previous_thread_hook = threading.excepthook
    threading.excepthook = _show_thread_exception
    several = launch is not None and launch.size > 1
    sys.excepthook = _abort_on_exception if several else _show_exception
    if not settings().abort_on_exception:  # a wrong setting is shown by the hook already
        sys.excepthook = _show_exception
