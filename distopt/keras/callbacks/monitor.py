"""MonitorCallback: watches one number of the logs, and knows whether it has become better."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from distopt.core.checks import as_one_of, shown
from distopt.core.numbers import as_scalar
from distopt.keras.callbacks.callback import Callback, Logs
from distopt.suggestions import did_you_mean

__all__ = ["MonitorCallback", "more_is_better"]

#: Words, and words that follow each other, in the names of numbers that are to be large.
_TO_BE_LARGE = (
    *("acc", "accuracy", "auc", "precision", "recall", "fmeasure", "top_k"),
    *("cosine_similarity", "cosine_proximity"),
)


def more_is_better(name: str) -> bool:
    """Whether larger values of that name are better, as for an accuracy, but not for a loss or an error.

    >>> [more_is_better(name) for name in ("val_acc", "auc_1", "auction_loss", "precision_error", "vaccines")]
    [True, True, False, False, False]
    """
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    if words and words[-1].endswith(("loss", "error")):
        return False
    return any(f"_{large}_" in f"_{'_'.join(words)}_" for large in _TO_BE_LARGE)


class MonitorCallback(Callback):
    """The base of callbacks that watch one number of the logs.

    Args:
        monitor: its name, e.g. ``val_loss``.
        mode: "min", "max", or "auto", which depends on the name: "max" for accuracies and the like.
        min_delta: the smallest change that counts as an improvement.

    Attributes:
        monitor: its name.
        mode: as given.
        monitor_op: ``np.less`` if less is better, else ``np.greater``.
        best: the best value so far.

    Raises:
        TypeError: ``monitor`` is no str.
        ValueError: an unknown mode.
    """

    def __init__(self, monitor: str, mode: str = "auto", min_delta: float = 0.0) -> None:
        super().__init__()
        as_one_of(mode, "mode", ("auto", "min", "max"))
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be the name of a loss or metric; got {shown(monitor)}")
        self.monitor = monitor
        self.mode = mode
        large = mode == "max" or (mode == "auto" and more_is_better(monitor))
        self.monitor_op: Any = np.greater if large else np.less
        self.min_delta = abs(as_scalar(min_delta, "min_delta"))
        self.best = self.worst

    @property
    def worst(self) -> float:
        """The worst value, to which any number is preferred."""
        return -math.inf if self.monitor_op is np.greater else math.inf

    def get_monitor_value(self, logs: Logs | None) -> float | None:
        """Returns the value of this epoch, or None if other epochs have it.

        Raises:
            ValueError: no value has that name. The message lists those that exist.
        """
        known: dict[str, Any] = logs or {}
        if self.monitor in known:
            return float(known[self.monitor])
        if self.comes_at_times(self.monitor):
            return None
        hint = did_you_mean(self.monitor, known)
        raise ValueError(f"monitor={self.monitor!r} is not among the logs.{hint} Known: {', '.join(known)}")

    def comes_at_times(self, name: str) -> bool:
        """Whether the logs have that value after other epochs."""
        model = self.model
        if model is None:
            return False
        if model.history is not None and name in model.history.history:
            return True
        state = model.fit_state
        return name.startswith("val_") and state is not None and state.awaits_validation

    def improved(self, value: float) -> bool:
        """Whether the value is better than the best so far by more than ``min_delta``. If so, records it."""
        delta = abs(self.min_delta)
        if not self.monitor_op(value - delta if self.monitor_op is np.greater else value + delta, self.best):
            return False
        self.best = value
        return True
