"""The replica's process: redirects its output, runs the program, and reports how it ended."""

from __future__ import annotations

import atexit
import faulthandler
import os
import sys
import types
from contextlib import suppress
from typing import NoReturn

from .program import Program, execute, own_part
from .protocol import TRACEBACK_BEGINS, TRACEBACK_ENDS, Event, encode


def run(program: Program, rank: int, descriptors: tuple[int, int, int], leader: bool) -> NoReturn:
    """Runs the program and exits with its code.

    Args:
        program: the program.
        rank: this process's rank, for its events.
        descriptors: the descriptors for standard output, standard error and events.
        leader: whether to start a session, so that all processes that the program leaves behind can be
            killed. On other machines, the MPI launcher's process groups are used for that.
    """
    out, err, events = descriptors
    if leader:
        os.setsid()
    os.dup2(out, 1)
    os.dup2(err, 2)
    for descriptor in (out, err):
        if descriptor > 2:
            os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()  # shows where compiled code has crashed
    ending = _Ending(rank, events)
    # Registered first, so it runs last, but before mpi4py's finalization, which is collective.
    atexit.register(ending.leave)
    try:
        execute(program)
        ending.finished()
    except SystemExit as request:
        ending.requested(request)
    except BaseException as error:
        ending.raised(error)
    sys.exit(ending.code)


class _Ending:
    """Reports how the program ended, and determines the exit code.

    Args:
        rank: this process's rank.
        events: the descriptor for events.

    Attributes:
        code: the exit code.
    """

    def __init__(self, rank: int, events: int) -> None:
        self.code = 0
        self._rank = rank
        self._events = events
        self._pid = os.getpid()

    def finished(self) -> None:
        """Reports success, once the program's threads have ended, and before other atexit functions.

        Before them, because those of some libraries end the process with ``os._exit``.
        """
        atexit.register(self._send, "done", "0")

    def requested(self, request: SystemExit) -> None:
        """The program raised SystemExit: sets the exit code as Python does, and reports it."""
        code = request.code
        if code is None or isinstance(code, int):
            self.code = (code or 0) & 0xFF
        else:
            print(code, file=sys.stderr)
            self.code = 1
        if self.code:
            self._report("SystemExit")
        else:
            self.finished()

    def raised(self, error: BaseException) -> None:
        """The program raised another exception: reports it, and prints its traceback between markers."""
        self.code = 130 if isinstance(error, KeyboardInterrupt) else 1
        self._report(f"{type(error).__module__}.{type(error).__qualname__}")
        _flush()
        self._mark(TRACEBACK_BEGINS)
        # The current hook: a strategy may have installed one that ends the job through MPI.
        sys.excepthook(type(error), error, _with_traceback(error))
        _flush()
        self._mark(TRACEBACK_ENDS)

    def leave(self) -> None:
        """Exits without finalizing MPI after a failure, because MPI_Finalize would wait for other replicas.

        Forked children also exit in this way: they must not finalize MPI.
        """
        if self.code or self._forked():
            _flush()
            os._exit(self.code)

    def _report(self, name: str) -> None:
        self._send("raised", str(self.code), name)

    def _send(self, kind: str, *values: str) -> None:
        if self._forked():
            return
        with suppress(OSError):  # the launcher is gone; the exit code still tells how the replica ended
            os.write(self._events, encode(Event(kind, self._rank, values)))

    def _mark(self, mark: bytes) -> None:
        if self._forked():
            return
        with suppress(OSError):
            os.write(2, mark + b"\n")

    def _forked(self) -> bool:
        """Whether this is a process that the program forked, whose end is not that of the replica."""
        return os.getpid() != self._pid


def _with_traceback(error: BaseException) -> types.TracebackType | None:
    """Removes the launcher's frames from the error's traceback, and returns it."""
    trace = own_part(error)
    error.__traceback__ = trace
    return trace


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed by the program, or the launcher is gone
            stream.flush()
