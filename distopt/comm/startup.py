"""The start of a job, where MPI itself waits for all processes, in silence and without limit."""

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
    """A wait observer for the first barrier, where it is known who waits, and not who is missing.

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
    """Watches over MPI's initialization, which holds the interpreter's lock.

    So the watch is a compiled function in a thread of its own, which needs no lock: it writes to the
    error output, and ends this process, and with it the job, when the limit is over.

    Args:
        limits: the watchdog's limits.
        job: what the launcher says of the job, for the messages.
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
        time.sleep(0)  # until the watch runs without the lock
    try:
        yield
    finally:
        spin.signal(state, 1, 1)
