"""Trial: whether steps are faster with something than without it, from the steps themselves."""

from __future__ import annotations

import time

import numpy as np

from distopt.comm import Communicator

__all__ = ["Trial"]

#: What saves less than this part of a step is not worth the thread and the memory that it takes.
_WORTH = 0.02
#: Steps of a turn, of which the first is not measured, and how many turns each way has.
_TURN, _TURNS = 5, 4


class Trial:
    """Tries both ways in turns, then keeps to the faster one, or the one without; all replicas alike.

    Each turn is compared with the one after it, since a machine may be slower for some of them.

    Args:
        job: all replicas.

    Attributes:
        on: whether the next step is made with it.
    """

    def __init__(self, job: Communicator) -> None:
        self._job = job
        self.on = True
        self._step = -1
        self._last = 0.0
        self._seconds: dict[bool, list[float]] = {True: [], False: []}

    def begin(self) -> None:
        """From now on steps are counted."""
        if self._step < 0:
            self._step, self._last = 0, time.perf_counter()

    def count(self) -> bool:
        """A step was made; whether steps have turned out to be as fast without. Collective now and then."""
        if self._step == 2 * _TURN * _TURNS:
            return False
        now = time.perf_counter()
        if self._step % _TURN:
            self._seconds[self.on].append(now - self._last)
        self._last = now
        self._step += 1
        self.on = self._step // _TURN % 2 == 0
        if self._step < 2 * _TURN * _TURNS:
            return False
        self.on = True
        both = np.array([self._seconds[True], self._seconds[False]]).reshape(2, _TURNS, _TURN - 1)
        # A step takes as long as the slowest replica's.
        seconds = np.max(self._job.all_gather(np.median(both, axis=2)), axis=0)
        self._with, self._without = np.median(seconds, axis=1).tolist()
        return bool(np.median(seconds[0] / seconds[1]) > 1 - _WORTH)

    def verdict(self) -> str:
        """What has come out."""
        return f"steps took {1e3 * self._with:.3g} ms with overlap, and {1e3 * self._without:.3g} ms without"
