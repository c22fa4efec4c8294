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
        program: what to run.
        rank: this process's rank, for its events.
        descriptors: where standard output, standard error and events go.
        leader: whether to start a session, so that the launcher can kill all that the program leaves
            behind; on other machines the MPI launcher's process groups serve for that.
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
    def __init__(self, rank: int, events: int) -> None:
        self.code = 0
        self._rank = rank
        self._events = events
        self._pid = os.getpid()

    def finished(self) -> None:
        """Reports it once the program's threads have ended too, and before other atexit functions.

        Those of some libraries end the process by ``os._exit``.
        """
        atexit.register(self._send, "done", "0")

    def requested(self, request: SystemExit) -> None:
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
        self.code = 130 if isinstance(error, KeyboardInterrupt) else 1
        self._report(f"{type(error).__module__}.{type(error).__qualname__}")
        _flush()
        self._mark(TRACEBACK_BEGINS)
        # The current hook: a strategy may have installed one that ends the job through MPI.
        sys.excepthook(type(error), error, _with_traceback(error))
        _flush()
        self._mark(TRACEBACK_ENDS)

    def leave(self) -> None:
        """Exits without finalizing MPI after a failure, which would wait for replicas that never come.

        So does a forked child, which must not finalize MPI.
        """
        if self.code or self._forked():
            _flush()
            os._exit(self.code)

    def _report(self, name: str) -> None:
        self._send("raised", str(self.code), name)

    def _send(self, kind: str, *values: str) -> None:
        if self._forked():
            return
        with suppress(OSError):  # the launcher is gone; there still is the exit code
            os.write(self._events, encode(Event(kind, self._rank, values)))

    def _mark(self, mark: bytes) -> None:
        if self._forked():
            return
        with suppress(OSError):
            os.write(2, mark + b"\n")

    def _forked(self) -> bool:
        """Whether this is a child forked by the program, whose end is not the replica's."""
        return os.getpid() != self._pid


def _with_traceback(error: BaseException) -> types.TracebackType | None:
    trace = own_part(error)
    error.__traceback__ = trace
    return trace


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed by the program, or the launcher is gone
            stream.flush()
