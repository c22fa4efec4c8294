"""What a supervisor tells of its replica once a second, if the launcher has asked for telemetry."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from . import telemetry
from .cores import cores
from .ledger_feed import LedgerFeed
from .protocol import Event
from .usage import usage

_SECONDS = 1.0


class Feed:
    """Sends telemetry of one replica.

    Args:
        rank: the replica's rank.
        pid: its process.
        threads: its number of threads, as ``OMP_NUM_THREADS`` says.
        send: sends an event.
    """

    def __init__(self, rank: int, pid: int, threads: str, send: Callable[[Event], None]) -> None:
        self._rank, self._pid, self._send = rank, pid, send
        self._due = time.monotonic() + _SECONDS
        # The ledger of the first replica's node holds all of the job.
        self._ledger = LedgerFeed(pid, self._tell) if rank == 0 else None
        self._tell("host", host=os.uname().nodename, cores=len(cores()), threads=threads)

    @property
    def wait(self) -> float:
        """Seconds until `proceed` has something to do."""
        return max(0.0, self._due - time.monotonic())

    def proceed(self) -> None:
        """Sends what is due."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _SECONDS
        used = usage(self._pid)
        if used is not None:
            self._tell("usage", rss=used[0], cpu=round(used[1], 2))
        if self._ledger is not None:
            self._ledger.proceed()

    def end(self) -> None:
        """The replica has ended."""
        if self._ledger is not None:
            self._ledger.proceed()

    def _tell(self, kind: str, **members: Any) -> None:
        event = telemetry.message(self._rank, kind, **members)
        if event is not None:
            self._send(event)
