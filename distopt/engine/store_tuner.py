"""StoreTuner: of two ways that give the same, the one that is faster here."""

from __future__ import annotations

__all__ = ["StoreTuner"]

_STORES = ("auto", "ordinary", "streaming")
#: At the beginning of a period each way is tried so many times.
_TRIALS = 3
#: Steps of the first period, which may be a job's first and therefore odd; the next ones are longer, by
#: this factor and up to this length, as long as the choice stays the same.
_FIRST, _FACTOR, _LAST = 16, 2, 128
#: So many steps one after the other, each by this factor slower than when tried, begin a new period.
_SLOW_STEPS, _SLOWER = 3, 1.25


class StoreTuner:
    """Tries both ways now and then, since what is faster may change while a job runs.

    The operating system may move processes between cores that share a cache and cores that do not.

    Args:
        stores: ``"auto"``; or ``"streaming"`` or ``"ordinary"``, which is then always the way. With 2
            replicas, 25 M float32 parameters, ordinary and streaming stores take 18 and 22 ms a step in one
            state of a virtual machine, 31 and 14 ms in another (``python -m benchmarks tricks``).

    Raises:
        ValueError: something else.
    """

    def __init__(self, stores: str = "auto") -> None:
        if stores not in _STORES:
            raise ValueError(f"DISTOPT_STORES must be one of {', '.join(_STORES)}; got {stores!r}")
        #: Whether the way is the ordinary one, if it is given.
        self._given = None if stores == "auto" else stores == "ordinary"
        self._best = False
        self._period = _FIRST
        self._step = 0
        self._slow = 0
        #: The least seconds of each way in this period.
        self._least = [float("inf"), float("inf")]

    def choose(self) -> bool:
        """The way to go this time: True for ordinary stores."""
        if self._given is not None:
            return self._given
        return self._step % 2 == 1 if self._step < 2 * _TRIALS else self._best

    def observe(self, seconds: float) -> None:
        """Takes in how long a step has taken in the way chosen."""
        if self._step < 2 * _TRIALS:
            way = self.choose()
            self._least[way] = min(self._least[way], seconds)
        else:
            self._slow = self._slow + 1 if seconds > _SLOWER * self._least[self._best] else 0
        self._step += 1
        if self._step == 2 * _TRIALS:
            best = self._least[True] < self._least[False]
            self._period = min(_FACTOR * self._period, _LAST) if best == self._best else _FIRST
            self._best = best
        if self._step >= self._period or self._slow == _SLOW_STEPS:
            self._step = self._slow = 0
            self._least = [float("inf"), float("inf")]
