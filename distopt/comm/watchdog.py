"""Waits for others under a watchdog: busy at first, sleeping later, never silently."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Protocol

from distopt.comm.output import say
from distopt.errors import ReplicaStalled

__all__ = ["WaitObserver", "Watchdog"]

#: At the end only the replica that waits longest reports; the others leave it this many seconds.
_GRACE = 5.0
#: Between two looks so many seconds pass only if this process was stopped (Ctrl-Z), probably with all others.
_STOPPED = 5.0
#: Until so many seconds have passed, how long to sleep between two looks. Messages may move only
#: while they are looked at, so sleep is short as long as somebody may well come soon.
_NAPS = ((0.002, 0.0), (0.5, 0.00005), (float("inf"), 0.001))


class WaitObserver(Protocol):
    """Follows waits, and reports on them."""

    def wait_began(self) -> None:
        """This replica waits from now on."""

    def wait_ended(self) -> None:
        """It does not wait any more."""

    def poll(self) -> None:
        """Does for the others what can be done while waiting; called often."""

    def report(self, waited: float) -> str:
        """Who has been waited for, for so many seconds, and what everyone is doing.

        Returns:
            the message; empty if another replica waits longer, whose report it is then.
        """

    def final_report(self, waited: float) -> str:
        """The same before the job is ended, whoever waits longest."""


class Watchdog:
    """How long a replica waits for others, and what it says meanwhile.

    Args:
        stall_seconds: after so long, say who is waited for; once a wait (0: never).
        abort_seconds: after so long, give up (0: never).
        observer: tells what every replica is doing, for the message.
        abort: ends the job with an exit code.
    """

    def __init__(
        self, stall_seconds: float, abort_seconds: float, observer: WaitObserver, abort: Callable[[int], None]
    ) -> None:
        self.stall_seconds, self.abort_seconds = stall_seconds, abort_seconds
        self.observer = observer
        self.abort = abort
        self._in_flight: list[Callable[[], bool]] = []

    def track(self, done: Callable[[], bool]) -> Callable[[], None]:
        """Looks after a message that has been begun, in whatever is waited for from now on.

        Messages may move only while they are looked at. Were a replica to wait for something else
        without a look, others that need its message might wait for it, and it for them.

        Args:
            done: looks, and tells whether it has arrived.

        Returns:
            a function that waits for it.
        """
        self._in_flight.append(done)

        def arrive() -> None:
            self._in_flight.remove(done)  # the wait itself looks at it
            self.wait_until(done)

        return arrive

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Calls ``done`` until it is true.

        Raises:
            ReplicaStalled: the abort limit is over and the job could not be ended.
        """
        if done():
            return
        self.observer.wait_began()
        try:
            self._wait(done)
        finally:
            self.observer.wait_ended()

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
                say(self.observer.report(waited))
            if waited > end:
                report = self.observer.final_report(waited) if yielded else self.observer.report(waited)
                if report:
                    self._give_up(report)
                end, yielded = waited + _GRACE, True  # the one that waits longer ends the job
            for look in self._in_flight:
                look()
            self.observer.poll()
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
