"""Monitor: whether a number of the logs has become better."""

from __future__ import annotations

import difflib
import math
from typing import Any

from distopt.core.checks import as_one_of, shown
from distopt.core.numbers import as_scalar
from distopt.keras.callbacks.callback import Logs

__all__ = ["Monitor"]

_MORE_IS_BETTER = ("acc", "auc", "precision", "recall", "top_k", "fmeasure", "cosine_similarity")


class Monitor:
    """Watches one entry of the logs.

    Args:
        name: the entry, e.g. ``val_loss``.
        mode: "min", "max", or "auto", which goes by the name: "max" for accuracies and the like.
        min_delta: a smaller change is none.
        best: what the first value has to beat; anything by default.

    Raises:
        ValueError: an unknown mode.
    """

    def __init__(
        self, name: str, mode: str = "auto", min_delta: float = 0.0, best: float | None = None
    ) -> None:
        as_one_of(mode, "mode", ("auto", "min", "max"))
        if not isinstance(name, str):
            raise TypeError(f"monitor must be the name of a loss or metric; got {shown(name)}")
        self.name = name
        self._sign = (
            1.0 if mode == "max" or (mode == "auto" and any(m in name for m in _MORE_IS_BETTER)) else -1.0
        )
        self._min_delta = abs(as_scalar(min_delta, "min_delta"))
        self._first = best
        self.reset()

    def reset(self) -> None:
        """Forgets the best value."""
        self.best = -self._sign * math.inf if self._first is None else self._first

    def value(self, logs: Logs | None) -> float:
        """The number of this epoch.

        Raises:
            ValueError: there is none of that name; the text lists those that there are.
        """
        known: dict[str, Any] = logs or {}
        if self.name not in known:
            near = difflib.get_close_matches(self.name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"monitor={self.name!r} is not among the logs.{hint} Known: {', '.join(known)}")
        return float(known[self.name])

    def improved(self, value: float) -> bool:
        """Whether it is better than the best so far by more than min_delta; it is the best one then."""
        if not self._sign * (value - self.best) > self._min_delta:
            return False
        self.best = value
        return True
