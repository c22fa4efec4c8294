"""StoreTuner: chooses ordinary or streaming stores for the staging buffer, whichever is faster."""

from __future__ import annotations

__all__ = ["StoreTuner"]

_STORES = ("auto", "ordinary", "streaming")
#: How many times each kind of store is tried at the start of a period.
_TRIALS = 3
#: Steps of the first period, which is short because a job's first steps may be unusual. Later periods are
#: longer by a factor, up to a limit, as long as the choice stays the same.
_FIRST, _FACTOR, _LAST = 16, 2, 128
#: A new period begins after this many consecutive steps that are slower than the trials by this factor.
_SLOW_STEPS, _SLOWER = 3, 1.25


class StoreTuner:
    """Measures steps with both kinds of stores, periodically, because the faster kind may change.

    The operating system may move processes between cores that share a cache and cores that do not. With 2
    replicas and 25 M float32 parameters, ordinary and streaming stores take 18 and 22 ms a step in one state
    of a virtual machine, and 31 and 14 ms in another (``python -m benchmarks tricks``).

    Args:
        stores: ``"auto"`` to measure; ``"ordinary"`` or ``"streaming"`` for a fixed choice.

    Raises:
        ValueError: another value.
    """

    def __init__(self, stores: str = "auto") -> None:
        if stores not in _STORES:
            raise ValueError(f"DISTOPT_STORES must be one of {', '.join(_STORES)}; got {stores!r}")
        #: The fixed choice, True for ordinary stores; None to measure.
        self._given = None if stores == "auto" else stores == "ordinary"
        self._best = False
        self._period = _FIRST
        self._step = 0
        self._slow = 0
        #: The shortest step of this period in seconds, for streaming and for ordinary stores.
        self._least = [float("inf"), float("inf")]

    def choose(self) -> bool:
        """The stores to use in the next step: True for ordinary ones."""
        if self._given is not None:
            return self._given
        return self._step % 2 == 1 if self._step < 2 * _TRIALS else self._best

    def observe(self, seconds: float) -> None:
        """Records how long a step with the chosen stores took."""
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
