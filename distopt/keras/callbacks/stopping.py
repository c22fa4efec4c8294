"""Callbacks that end training: EarlyStopping and TerminateOnNaN."""

from __future__ import annotations

import math
from typing import Any

from distopt.keras.callbacks.callback import Callback, Logs, is_chief
from distopt.keras.callbacks.monitor import Monitor
from distopt.typing import Array

__all__ = ["EarlyStopping", "TerminateOnNaN"]


class EarlyStopping(Callback):
    """Stops when a number has not become better for some epochs.

    Args:
        monitor: the number's name in the logs.
        min_delta: a smaller change is none.
        patience: so many epochs without a better value end the training.
        verbose: 1 to say so.
        mode: "min", "max" or "auto".
        baseline: the value that the first epoch has to beat.
        restore_best_weights: go back to the weights of the best epoch.

    Attributes:
        stopped_epoch: the epoch after which training was stopped, 0 if it was not.
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
        super().__init__()
        self.monitor = Monitor(monitor, mode, min_delta, baseline)
        self.patience = patience
        self.verbose = verbose
        self.restore_best_weights = restore_best_weights
        self.stopped_epoch = 0
        self._waited = 0
        self._best_weights: list[Array] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """See Callback."""
        self.monitor.reset()
        self.stopped_epoch = self._waited = 0
        self._best_weights = None

    def get_state(self) -> dict[str, Any]:
        """For backups."""
        return {"best": self.monitor.best, "waited": self._waited, "weights": self._best_weights}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes back to what :meth:`get_state` told."""
        self.monitor.best, self._waited = state["best"], state["waited"]
        self._best_weights = state["weights"]

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        if self.monitor.improved(self.monitor.value(logs)):
            self._waited = 0
            if self.restore_best_weights:
                self._best_weights = self.model.get_weights()
            return
        self._waited += 1
        if self._waited < self.patience:
            return
        self.stopped_epoch = epoch
        self.model.stop_training = True
        if self.verbose and is_chief():
            print(f"Epoch {epoch + 1}: early stopping, best {self.monitor.name} {self.monitor.best:.4g}")
        if self._best_weights is not None:
            self.model.set_weights(self._best_weights)


class TerminateOnNaN(Callback):
    """Stops, on all replicas, after a batch whose loss is NaN or infinite."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            if is_chief():
                print(f"Batch {batch}: the loss is {loss}, training ends")
            self.model.stop_training = True
