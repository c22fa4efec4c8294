"""Cooperative scheduling of threads: exactly one runs, and they switch only at collective calls.

So output appears in the order of the replicas, and a debugger sees one running thread. A rendezvous that can
never happen is detected immediately, without a timeout.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from distopt.comm.forks import require_own_process
from distopt.errors import ReplicaFailed, ReplicaMismatch

__all__ = ["SIGNAL_WAIT", "TurnScheduler"]

#: Seconds after which a waiting main thread checks for signals.
SIGNAL_WAIT = 0.5


class TurnScheduler:
    """``size`` threads that take turns in the order of their numbers.

    Args:
        size: the number of threads.
        first: the number of thread 0's replica in the job, for messages.
        save: called in a thread before another one runs. It saves state of the process, and returns a
            function that restores this state when the thread's next turn starts. So each thread can have its
            own version of this state, which it must set itself in its first turn.
    """

    def __init__(
        self, size: int, first: int = 0, save: Callable[[], Callable[[], None]] | None = None
    ) -> None:
        self.size = size
        self.first = first
        self._save = save
        self._pid = os.getpid()
        self._turn = [threading.Semaphore(0) for _ in range(size)]
        self._contributions: list[Any] = [None] * size
        self._arrived = [False] * size
        #: For each thread that has arrived, the threads that it waits for.
        self._groups: list[Sequence[int]] = [()] * size
        self._results: list[list[Any]] = [[]] * size
        self._done = [False] * size
        self._statuses = [""] * size
        self._failure: tuple[int, str] | None = None

    def reset(self) -> None:
        """Prepares the scheduler for ``size`` other threads, after all have left."""
        self._pid = os.getpid()
        self._done = [False] * self.size
        self._arrived = [False] * self.size
        self._turn = [threading.Semaphore(0) for _ in range(self.size)]

    # -- begin and end of a thread
    def enter(self, index: int) -> None:
        """Waits for the first turn. :meth:`start` admits thread 0."""
        self._await_turn(index)

    def start(self) -> None:
        """Gives thread 0 its turn."""
        self._turn[0].release()

    def leave(self, index: int, failure: str | None = None) -> None:
        """Ends a thread's part, with its traceback if it raised. The next thread runs."""
        self._done[index] = True
        if failure is not None and self._failure is None:
            self._failure = (index, failure)
        self._run_next(index)

    def set_status(self, index: int, text: str) -> None:
        """Records where the thread is, for messages."""
        self._statuses[index] = text

    # -- rendezvous
    def rendezvous(self, index: int, contribution: Any, members: Sequence[int] | None = None) -> list[Any]:
        """Waits until every thread has called it and returns the contributions of all, by number.

        Args:
            index: the number of the thread.
            contribution: what it passes to the others.
            members: the threads that call it, in order; all by default.

        Raises:
            ReplicaFailed: a thread has raised.
            ReplicaMismatch: a thread has ended or waits for others, so the rendezvous can never happen.
            RuntimeError: called in a forked child of the process.
        """
        require_own_process(self._pid)
        group = self._groups[index] = range(self.size) if members is None else members
        self._check(index)
        self._contributions[index], self._arrived[index] = contribution, True
        if all(self._arrived[i] and self._groups[i] == group for i in group):
            result = [self._contributions[i] for i in group]
            for i in group:
                self._arrived[i], self._contributions[i], self._results[i] = False, None, result
            if index != group[0]:
                self._switch(index, group[0])
        else:
            self._run_next(index)
        if self._arrived[index]:  # woken without a rendezvous: a thread has failed or ended, or all wait
            self._check(index)
            raise ReplicaMismatch(self._waiting())
        return self._results[index]

    def _waiting(self) -> str:
        places = [status or "a collective call" for status in self._statuses]
        lines = [f"  replica {self.first + i}: {place}" for i, place in enumerate(places)]
        return "\n".join(["replicas wait for each other in different calls:", *lines])

    def _check(self, index: int) -> None:
        """Raises if a thread has failed, or if one that this thread waits for has ended."""
        if self._failure is not None:
            culprit, text = self._failure
            raise ReplicaFailed(f"replica {self.first + culprit} raised:\n{text}")
        gone = [self.first + i for i in self._groups[index] if self._done[i]]
        if gone:
            raise ReplicaMismatch(
                f"replica {self.first + index} waits in {self._statuses[index] or 'a collective call'}, but "
                f"replica {', '.join(map(str, gone))} has ended its program: the replicas make "
                f"different numbers of calls"
            )

    # -- turns
    def _await_turn(self, index: int) -> None:
        # Python handles signals when thread 0 next runs. A signal that arrived just before this wait, or in
        # another thread, would not interrupt the wait, so it has a timeout.
        while not self._turn[index].acquire(timeout=SIGNAL_WAIT if index == 0 else None):
            pass

    def _switch(self, index: int, other: int) -> None:
        """Gives the turn to another thread, and waits for the next turn of this one."""
        restore = self._save() if self._save is not None else None
        self._turn[other].release()
        self._await_turn(index)
        if restore is not None:
            restore()

    def _run_next(self, index: int) -> None:
        """Gives the turn to the next thread: first to one that waits in vain, so that it raises an error."""
        order = [(index + step) % self.size for step in range(1, self.size)]
        runnable = [i for i in order if not self._done[i] and not self._arrived[i]]
        waiting = [i for i in order if not self._done[i] and self._arrived[i]]
        failed = self._failure is not None
        stuck = [i for i in waiting if failed or any(self._done[k] for k in self._groups[i])]
        candidates = stuck + runnable
        if not candidates and self._done[index]:
            candidates = waiting  # they wait for each other in different calls
        if not candidates:
            return
        if self._done[index]:
            self._turn[candidates[0]].release()
        else:
            self._switch(index, candidates[0])
