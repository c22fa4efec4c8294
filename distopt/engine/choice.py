"""Choice: of two ways that give the same, the one that is faster here."""

from __future__ import annotations

__all__ = ["Choice"]

#: At the beginning of a period each way is tried so many times.
_TRIALS = 3
#: Steps of the first period; it doubles up to the last as long as the choice stays the same.
_FIRST, _LAST = 64, 1024


class Choice:
    """Tries both ways now and then, since what is faster may change while a job runs.

    The operating system may move processes between cores that share a cache and cores that do not.
    """

    def __init__(self) -> None:
        self._best = False
        self._period = _FIRST
        self._step = 0
        self._times: tuple[list[float], list[float]] = ([], [])

    def way(self) -> bool:
        """The way to go this time, one or the other."""
        return self._step % 2 == 1 if self._step < 2 * _TRIALS else self._best

    def took(self, seconds: float) -> None:
        """What it has taken."""
        if self._step < 2 * _TRIALS:
            self._times[self.way()].append(seconds)
        self._step += 1
        if self._step == 2 * _TRIALS:
            best = min(self._times[True]) < min(self._times[False])
            self._period = min(2 * self._period, _LAST) if best == self._best else _FIRST
            self._best = best
        if self._step == self._period:
            self._step, self._times = 0, ([], [])
