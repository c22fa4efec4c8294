"""Watchdogs for the start of a job, when MPI itself waits for all processes without a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from distopt.comm import spin
from distopt.comm.compiled import STRIDE
from distopt.launched import Launched
from distopt.settings import Settings

__all__ = ["StartupObserver", "startup_watchdog"]

_HINT = (
    "  Look at what the others do before their first use of distopt or MPI: reading data, a download, "
    "input(). All replicas must get there."
)


class StartupObserver:
    """A wait observer for the first barrier, before the processes can know which of them are missing.

    Args:
        rank: this process.
        size: the number of processes.
        replicas: the number of replicas in each process.
    """

    def __init__(self, rank: int, size: int, replicas: int = 1) -> None:
        self._own = rank * replicas
        self._size = size * replicas

    def wait_began(self) -> None:
        """See WaitObserver."""

    def wait_ended(self) -> None:
        """See WaitObserver."""

    def poll(self) -> None:
        """See WaitObserver."""

    def report(self, waited: float) -> str:
        """See WaitObserver."""
        return (
            f"distopt: waiting for {waited:.0f} s: replica {self._own} is at its first use of distopt, "
            f"which not all {self._size} have reached.\n{_HINT}"
        )

    def final_report(self, waited: float) -> str:
        """See WaitObserver."""
        return self.report(waited)


@contextmanager
def startup_watchdog(limits: Settings, job: Launched | None) -> Iterator[None]:
    """A watchdog for the initialization of MPI, which holds the GIL.

    It is a compiled function in its own thread, which does not need the GIL: see :func:`spin.watch`. After
    the abort limit, it ends this process, and with it the job.

    Args:
        limits: the limits of the watchdog.
        job: the launcher's data about the job, for messages.
    """
    who, all_of_them = "this process", "all processes"
    if job is not None:
        who = who if job.rank is None else f"process {job.rank}"
        all_of_them = f"all {job.size} processes"
    stall, abort = limits.stall_seconds, limits.abort_seconds
    waiting = (
        f"distopt: waiting for %g s: {who} is in MPI_Init, which not {all_of_them} have reached.\n{_HINT}\n"
    )
    ending = f"{waiting % abort}distopt: ending the job (abort limit {abort:g} s)\n"
    texts = [np.frombuffer(text.encode(), np.uint8).copy() for text in (waiting % stall, ending)]
    state = spin.counters(np.zeros(2 * STRIDE * 8, np.uint8), 2)
    watch = threading.Thread(target=spin.watch, args=(state, stall, abort, *texts), daemon=True)
    watch.start()
    while not state[0]:
        time.sleep(0)  # until the thread runs the compiled function, without the GIL
    try:
        yield
    finally:
        spin.signal(state, 1, 1)
