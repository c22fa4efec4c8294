"""Callbacks that end training: EarlyStopping and TerminateOnNaN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from distopt.core.numbers import as_scalar
from distopt.keras.callbacks.callback import Callback, Logs, is_chief
from distopt.keras.callbacks.monitor import MonitorCallback
from distopt.keras.callbacks.states import check_arrays, check_counts, check_members, check_number
from distopt.typing import Array

__all__ = ["EarlyStopping", "TerminateOnNaN"]


class EarlyStopping(MonitorCallback):
    """Stops training when a value has stopped improving.

    Args:
        monitor: the name of the value in the logs. Epochs without it do not count.
        min_delta: the smallest change that counts as an improvement.
        patience: the number of epochs without improvement after which training stops.
        verbose: 1 to print a message.
        mode: "min", "max" or "auto".
        baseline: the value that the first epoch must improve on.
        restore_best_weights: whether to restore the weights of the best epoch.

    Attributes:
        wait: the number of epochs since the last improvement.
        stopped_epoch: the epoch after which training stopped, or 0.
        best: the best value.
        best_epoch: the epoch of the best value, counted from 0.
        best_weights: the weights after that epoch. None without ``restore_best_weights``.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if self.monitor_op is np.less:
            self.min_delta = -self.min_delta  # as in Keras: subclasses compare value - min_delta
        self.patience = patience
        self.verbose = verbose
        self.baseline = None if baseline is None else as_scalar(baseline, "baseline")
        self.restore_best_weights = restore_best_weights
        self._forget()

    def _forget(self) -> None:
        self.best = self.worst if self.baseline is None else self.baseline
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best_weights: list[Array] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """See Callback."""
        self._forget()

    def get_state(self) -> dict[str, Any]:
        """Returns the state for backups."""
        return {name: getattr(self, name) for name in _STATE}

    def check_state(self, state: Any) -> None:
        """Raises an error if :meth:`set_state` would not accept this state."""
        check_members(state, set(_STATE))
        check_number(state["best"], "best")
        check_counts(state, "best_epoch", "wait", "stopped_epoch")
        if state["best_weights"] is not None:
            check_arrays(state["best_weights"], self.model.weights, "best_weights")

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores a state of :meth:`get_state`."""
        for name in _STATE:
            setattr(self, name, state[name])

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        value = self.get_monitor_value(logs)
        if value is None:
            return
        if self.improved(value):
            self.best_epoch, self.wait = epoch, 0
            if self.restore_best_weights:
                with self.model.optimizer.eval():
                    self.best_weights = self.model.get_weights()
            return
        self.wait += 1
        if self.wait < self.patience:
            return
        self.stopped_epoch = epoch
        self.model.stop_training = True
        if self.verbose and is_chief():
            print(f"Epoch {epoch + 1}: early stopping, best {self.monitor} {self.best:.4g}")
        if self.best_weights is not None:
            self.model.optimizer.eval()
            self.model.set_weights(self.best_weights)


#: What an EarlyStopping remembers.
_STATE = ("best", "best_epoch", "best_weights", "wait", "stopped_epoch")


class TerminateOnNaN(Callback):
    """Stops training on all replicas after a batch with a NaN or infinite loss."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            if is_chief():
                print(f"Batch {batch}: the loss is {loss}, training ends")
            self.model.stop_training = True
