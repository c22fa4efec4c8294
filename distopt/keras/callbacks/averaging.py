"""ExponentialMovingAverage: the mean of the weights over the last steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.numbers import as_scalar
from distopt.core.tensor import as_array
from distopt.keras.callbacks.callback import Callback, Logs
from distopt.keras.callbacks.states import check_arrays
from distopt.keras.per_replica import assign_alike
from distopt.typing import Array

__all__ = ["ExponentialMovingAverage"]


class ExponentialMovingAverage(Callback):
    """Keeps ``average = decay * average + (1 - decay) * weight`` after each batch (Polyak and Juditsky 1992).

    Args:
        decay: from 0 to less than 1.
        swap: whether to give the model the averages when training ends.

    Attributes:
        averages: the averages of the model's trainable weights, in their order.

    Raises:
        ValueError: ``decay`` is outside [0, 1).
    """

    local_batches = True

    def __init__(self, decay: float = 0.999, swap: bool = True) -> None:
        super().__init__()
        if not 0 <= as_scalar(decay, "decay") < 1:
            raise ValueError(f"decay must be in [0, 1); got {decay}")
        self.decay = decay
        self.swap = swap
        self.averages: list[Array] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """See Callback."""
        self.averages = [np.array(weight) for weight in self.model.trainable_weights]

    def get_state(self) -> list[Array]:
        """Returns the state for backups."""
        return self.averages

    def check_state(self, state: Any) -> None:
        """Raises an error if :meth:`set_state` would not accept this state."""
        check_arrays(state, self.model.trainable_weights, "the averages")

    def set_state(self, state: list[Array]) -> None:
        """Restores a state of :meth:`get_state`."""
        self.averages = state

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        for average, weight in zip(self.averages, self.model.trainable_weights, strict=True):
            average[...] = average + (as_array(weight) - average) * average.dtype.type(1 - self.decay)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """See Callback."""
        if self.swap:
            for average, weight in zip(self.averages, self.model.trainable_weights, strict=True):
                assign_alike(weight, average)
