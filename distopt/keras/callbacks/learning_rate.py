"""Callbacks that change the learning rate."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from distopt.core.checks import as_count
from distopt.core.numbers import as_scalar
from distopt.core.tensor import as_array
from distopt.keras.callbacks.callback import Callback, Logs, is_chief
from distopt.keras.callbacks.monitor import MonitorCallback
from distopt.keras.callbacks.states import check_counts, check_members, check_number
from distopt.keras.per_replica import wait_for_all
from distopt.optimizers import Optimizer
from distopt.optimizers.schedules import LearningRateSchedule

__all__ = ["LearningRateScheduler", "LearningRateWarmup", "ReduceLROnPlateau"]


def learning_rate(optimizer: Optimizer, caller: str) -> float:
    """The optimizer's learning rate.

    Raises:
        ValueError: it is a schedule or a function, which no callback can change.
    """
    rate = optimizer.learning_rate
    if isinstance(rate, LearningRateSchedule) or (callable(rate) and not hasattr(rate, "dtype")):
        raise ValueError(
            f"{caller} changes the learning rate, which the optimizer takes from {rate!r}: "
            "give the optimizer a number"
        )
    return float(as_array(rate))


class LearningRateScheduler(Callback):
    """Sets the learning rate at the start of each epoch.

    Args:
        schedule: a function of (epoch, current learning rate), or of the epoch alone, that returns the new
            learning rate.
        verbose: 1 to print it.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        self.schedule = schedule
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        before = learning_rate(self.model.optimizer, "LearningRateScheduler")
        takes_rate = len(inspect.signature(self.schedule).parameters) > 1
        found = self.schedule(epoch, before) if takes_rate else self.schedule(epoch)
        rate = as_scalar(found, f"the learning rate of epoch {epoch}, as the schedule gives it,", finite=True)
        wait_for_all()
        self.model.optimizer.learning_rate = rate
        if self.verbose and is_chief():
            print(f"Epoch {epoch + 1}: learning rate {rate:.4g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        if logs is not None:
            logs["lr"] = learning_rate(self.model.optimizer, "LearningRateScheduler")

    def get_state(self) -> float:
        """Returns the current learning rate for backups."""
        return learning_rate(self.model.optimizer, "LearningRateScheduler")

    def check_state(self, state: Any) -> None:
        """Raises an error if :meth:`set_state` would not accept this state."""
        check_number(state, "the learning rate")

    def set_state(self, state: float) -> None:
        """Restores a state of :meth:`get_state`."""
        self.model.optimizer.learning_rate = state


class LearningRateWarmup(Callback):
    """Multiplies the learning rate by ``scale``, gradually over the first epochs.

    If the global batch grows with the number of replicas, the learning rate should grow with it. The full
    rate is too large for the first steps (Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.2).

    Args:
        epochs: the number of epochs until the full rate is reached.
        scale: the factor; the number of replicas by default.
        verbose: 1 to print when the full rate is reached.

    Raises:
        ValueError: in training, if the number of batches in an epoch is unknown.
    """

    local_batches = True

    def __init__(self, epochs: int = 5, scale: float | None = None, verbose: int = 0) -> None:
        super().__init__()
        self.epochs = epochs
        self.scale = scale
        self.verbose = verbose
        self._base = 0.0
        self._epoch = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """See Callback."""
        if self.params["steps"] is None:
            raise ValueError(
                "LearningRateWarmup needs the number of batches in an epoch: pass steps_per_epoch"
            )
        self._base = learning_rate(self.model.optimizer, "LearningRateWarmup")
        wait_for_all()

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        steps = self.params["steps"]
        done = self._epoch * steps + batch + 1
        whole = self.epochs * steps
        if done > whole:
            return
        scale = self.params["replicas"] if self.scale is None else self.scale
        self.model.optimizer.learning_rate = self._base * (1 + (scale - 1) * done / whole)
        if done == whole and self.verbose and is_chief():
            print(f"Epoch {self._epoch + 1}: warmed up to learning rate {self._base * scale:.4g}")

    def get_state(self) -> float:
        """Returns the state for backups."""
        return self._base

    def check_state(self, state: Any) -> None:
        """Raises an error if :meth:`set_state` would not accept this state."""
        check_number(state, "the learning rate")

    def set_state(self, state: float) -> None:
        """Restores a state of :meth:`get_state`."""
        self._base = state


class ReduceLROnPlateau(MonitorCallback):
    """Lowers the learning rate when a value has stopped improving.

    Args:
        monitor: the name of the value in the logs. Epochs without it do not count.
        factor: the factor for the learning rate, less than 1.
        patience: the number of epochs without improvement after which the rate is lowered.
        verbose: 1 to print a message.
        mode: "min", "max" or "auto".
        min_delta: the smallest change that counts as an improvement.
        cooldown: the number of epochs after a change that do not count.
        min_lr: the lower limit of the learning rate.

    Attributes:
        wait: the number of epochs since the last improvement or change.
        best: the best value.
        cooldown_counter: the number of coming epochs that do not count.

    Raises:
        ValueError: ``factor`` is 1 or more.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if as_scalar(factor, "factor") >= 1:
            raise ValueError(f"factor of ReduceLROnPlateau must be less than 1; got {factor}")
        self.factor = factor
        self.patience = as_count(patience, "patience", least=0)
        self.verbose = verbose
        self.cooldown = as_count(cooldown, "cooldown", least=0)
        self.min_lr = as_scalar(min_lr, "min_lr")
        self.wait = self.cooldown_counter = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """See Callback."""
        self.best = self.worst
        self.wait = self.cooldown_counter = 0

    def in_cooldown(self) -> bool:
        """Whether the callback is in its cooldown after a change."""
        return self.cooldown_counter > 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        rate = learning_rate(self.model.optimizer, "ReduceLROnPlateau")
        value = self.get_monitor_value(logs)
        if logs is not None:
            logs["lr"] = rate
        if value is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self.improved(value):
            self.wait = 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience:
                self._lower(epoch, rate)

    def _lower(self, epoch: int, rate: float) -> None:
        lower = max(rate * self.factor, self.min_lr)
        # The optimizer's rate may have fewer digits than min_lr: what is equal in these is no change.
        kind = as_array(self.model.optimizer.learning_rate).dtype.type
        if not kind(lower) < kind(rate):
            return
        wait_for_all()
        self.model.optimizer.learning_rate = lower
        self.cooldown_counter, self.wait = self.cooldown, 0
        if self.verbose and is_chief():
            print(f"Epoch {epoch + 1}: learning rate lowered to {lower:.4g}")

    def get_state(self) -> dict[str, float]:
        """Returns the state for backups."""
        return {"best": self.best, "wait": self.wait, "cooldown_counter": self.cooldown_counter}

    def check_state(self, state: Any) -> None:
        """Raises an error if :meth:`set_state` would not accept this state."""
        check_members(state, {"best", "wait", "cooldown_counter"})
        check_number(state["best"], "best")
        check_counts(state, "wait", "cooldown_counter")

    def set_state(self, state: dict[str, float]) -> None:
        """Restores a state of :meth:`get_state`."""
        self.best = state["best"]
        self.wait, self.cooldown_counter = int(state["wait"]), int(state["cooldown_counter"])
