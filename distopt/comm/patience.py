"""Waiting for others with a watchdog: quickly at first, asleep later, never silently."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Protocol

from distopt.comm.output import say
from distopt.errors import ReplicaStalled

__all__ = ["Company", "Patience"]

#: At the end only the replica that waits longest speaks; the others leave it this many seconds.
_GRACE = 5.0
#: Between two looks so many seconds pass only if this process was stopped (Ctrl-Z), probably with all others.
_STOPPED = 5.0
#: Until so many seconds have passed, how long to sleep between two looks. Messages may move only
#: while they are looked at, so sleep is short as long as somebody may well come soon.
_NAPS = ((0.002, 0.0), (0.5, 0.00005), (float("inf"), 0.001))


class Company(Protocol):
    """Those whom a replica waits with, and for."""

    def wait(self) -> None:
        """Learns that this replica waits from now on."""

    def go_on(self) -> None:
        """Learns that it does not wait any more."""

    def attend(self) -> None:
        """Does for the others what can be done while waiting; called often."""

    def report(self, waited: float) -> str:
        """Who has been waited for, for so many seconds, and where everyone stands.

        Returns:
            the message; empty if it is another replica's to say, which waits longer.
        """

    def last_report(self, waited: float) -> str:
        """The same before the job is ended, whoever else says it."""


class Patience:
    """How long a replica waits for others, and what it says meanwhile.

    Args:
        stall_seconds: after so long, say who is waited for; once a wait (0: never).
        abort_seconds: after so long, give up (0: never).
        company: tells where every replica stands, for the message.
        abort: ends the job with an exit code.
    """

    def __init__(
        self, stall_seconds: float, abort_seconds: float, company: Company, abort: Callable[[int], None]
    ) -> None:
        self.stall_seconds, self.abort_seconds = stall_seconds, abort_seconds
        self.company = company
        self.abort = abort
        self._moving: list[Callable[[], bool]] = []

    def moving(self, done: Callable[[], bool]) -> Callable[[], None]:
        """Looks after a message that has been begun, in whatever is waited for from now on.

        Messages may move only while they are looked at. Were a replica to wait for something else
        without a look, others that need its message might wait for it, and it for them.

        Args:
            done: looks, and tells whether it has arrived.

        Returns:
            a function that waits for it.
        """
        self._moving.append(done)

        def arrive() -> None:
            self.until(done)
            self._moving.remove(done)

        return arrive

    def until(self, done: Callable[[], bool]) -> None:
        """Calls ``done`` until it is true.

        Raises:
            ReplicaStalled: the abort limit is over and the job could not be ended.
        """
        if done():
            return
        self.company.wait()
        try:
            self._wait(done)
        finally:
            self.company.go_on()

    def _wait(self, done: Callable[[], bool]) -> None:
        start = last = time.monotonic()
        warning, end = self.stall_seconds or math.inf, self.abort_seconds or math.inf
        yielded = False
        while not done():
            now = time.monotonic()
            if now - last > _STOPPED:
                start += now - last
            last = now
            waited = now - start
            if waited > warning:
                warning = math.inf
                say(self.company.report(waited))
            if waited > end:
                report = self.company.last_report(waited) if yielded else self.company.report(waited)
                if report:
                    self._give_up(report)
                end, yielded = waited + _GRACE, True  # the one that waits longer ends the job
            for look in self._moving:
                look()
            self.company.attend()
            nap = next(length for until, length in _NAPS if waited < until)
            if nap:
                time.sleep(nap)
            else:
                os.sched_yield()  # there may be more replicas than cores

    def _give_up(self, report: str) -> None:
        text = f"{report}\ndistopt: ending the job (abort limit {self.abort_seconds:g} s)"
        say(text)
        self.abort(1)
        raise ReplicaStalled(text)
