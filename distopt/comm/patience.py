"""Waiting for others with a watchdog: quickly at first, asleep later, never silently."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from distopt.errors import ReplicaStalled

__all__ = ["Patience"]

#: Until so many seconds have passed, how long to sleep between two looks. Messages may move only
#: while they are looked at, so sleep is short as long as somebody may well come soon.
_NAPS = ((0.002, 0.0), (0.5, 0.00005), (float("inf"), 0.001))


@dataclass
class Patience:
    """How long a replica waits for others, and what it says meanwhile.

    Attributes:
        stall_seconds: after so long, say who is waited for; once a wait.
        abort_seconds: after so long, give up (0: never).
        where: tells where every replica stands, for the message.
        abort: ends the job with an exit code.
    """

    stall_seconds: float
    abort_seconds: float
    where: Callable[[], str]
    abort: Callable[[int], None]

    def until(self, done: Callable[[], bool]) -> None:
        """Calls ``done`` until it is true.

        Raises:
            ReplicaStalled: the abort limit is over and the job could not be ended.
        """
        if done():
            return
        start = time.monotonic()
        said = False
        while not done():
            waited = time.monotonic() - start
            if not said and waited > self.stall_seconds > 0:
                said = True
                print(self._message(waited), file=sys.stderr, flush=True)
            if waited > self.abort_seconds > 0:
                limit = f"distopt: ending the job (abort limit {self.abort_seconds:g} s)"
                text = f"{self._message(waited)}\n{limit}"
                print(text, file=sys.stderr, flush=True)
                self.abort(1)
                raise ReplicaStalled(text)
            nap = next(length for until, length in _NAPS if waited < until)
            if nap:
                time.sleep(nap)
            else:
                os.sched_yield()  # there may be more replicas than cores

    def _message(self, waited: float) -> str:
        return f"distopt: waiting for {waited:.0f} s\n{self.where()}"
