"""Feed: telemetry that a supervisor sends about its replica once a second, if the launcher asked for it."""

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
        pid: its process ID.
        threads: the value of its ``OMP_NUM_THREADS``.
        send: a function that sends an event.
    """

    def __init__(self, rank: int, pid: int, threads: str, send: Callable[[Event], None]) -> None:
        self._rank, self._pid, self._send = rank, pid, send
        self._due = time.monotonic() + _SECONDS
        # The ledger on the node of replica 0 has the rows of all replicas of the job.
        self._ledger = LedgerFeed(pid, self._tell) if rank == 0 else None
        self._tell("host", host=os.uname().nodename, cores=len(cores()), threads=threads)

    @property
    def wait(self) -> float:
        """Seconds until `proceed` has something to do."""
        return max(0.0, self._due - time.monotonic())

    def proceed(self) -> None:
        """Sends telemetry if a second has passed."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _SECONDS
        used = usage(self._pid)
        if used is not None:
            self._tell("usage", rss=used[0], cpu=round(used[1], 2))
        if self._ledger is not None:
            self._ledger.proceed()

    def end(self) -> None:
        """At the end of the replica: sends what is left in the ledger."""
        if self._ledger is not None:
            self._ledger.proceed()

    def _tell(self, kind: str, **members: Any) -> None:
        event = telemetry.message(self._rank, kind, **members)
        if event is not None:
            self._send(event)
