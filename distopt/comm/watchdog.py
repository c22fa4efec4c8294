"""The watchdog: waits for other replicas, reports long waits, and ends the job after a limit."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Protocol

from distopt.comm.output import say
from distopt.errors import ReplicaStalled

__all__ = ["WaitObserver", "Watchdog"]

#: At the abort limit, the replica that has waited longest ends the job; the others give it this many seconds.
_GRACE = 5.0
#: More seconds between two checks mean that this process was stopped (Ctrl-Z), probably with all others.
_STOPPED = 5.0
#: ``(until, seconds)``: how long to sleep between two checks, until a wait takes that long. Many MPIs make
#: progress only during a check, so the sleep is short at first.
_NAPS = ((0.002, 0.0), (0.5, 0.00005), (float("inf"), 0.001))


class WaitObserver(Protocol):
    """Observes the waits of this replica, and writes reports about them."""

    def wait_began(self) -> None:
        """Called when this replica starts to wait."""

    def wait_ended(self) -> None:
        """Called when this replica stops waiting."""

    def poll(self) -> None:
        """Called often during a wait, for example to answer other replicas."""

    def report(self, waited: float) -> str:
        """A report after ``waited`` seconds: which replicas are missing, and what each replica is doing.

        Returns:
            the message; empty if another replica has waited longer, which then writes the report.
        """

    def final_report(self, waited: float) -> str:
        """Like :meth:`report`, before the job is ended; never empty."""


class Watchdog:
    """Waits for other replicas, and reports or ends waits that take too long.

    Args:
        stall_seconds: after this time, report the wait once (0: never).
        abort_seconds: after this time, end the job (0: never).
        observer: writes the reports.
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
        """Makes progress on an operation, such as a message, during all waits from now on.

        Many MPIs make progress on a message only when it is tested. If a replica waited for something else
        without testing it, replicas that need the message might wait forever.

        Args:
            done: tests the operation, and returns whether it is finished.

        Returns:
            a function that waits until the operation is finished.
        """
        self._in_flight.append(done)

        def arrive() -> None:
            self._in_flight.remove(done)  # wait_until tests it
            self.wait_until(done)

        return arrive

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Calls ``done`` until it returns True.

        Raises:
            ReplicaStalled: the abort limit was reached, and ``abort`` returned.
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
            for test in self._in_flight:
                test()
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
