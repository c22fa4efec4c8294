"""LossMetric: a compiled loss, as one of its model's metrics."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.tensor import Tensor
from distopt.keras.training.compiled_loss import CompiledLoss

__all__ = ["LossMetric"]


class LossMetric:
    """The mean of a compiled loss over all batches and replicas since the epoch began.

    The loss itself counts what it is called with; so here is nothing to update.

    Args:
        loss: a model's.
        name: "loss", or that of one output's.
    """

    def __init__(self, loss: CompiledLoss, name: str) -> None:
        self._loss = loss
        self.name = name

    def result(self) -> Tensor:
        """The mean, from the sums over all replicas: a collective call."""
        return Tensor(np.asarray(self._loss.results()[self.name]), np.dtype(np.float64))

    def reset_state(self) -> None:
        """Resets the state, and that of the losses of the model's other outputs."""
        self._loss.reset()

    def reset_states(self) -> None:
        """The older name of :meth:`reset_state`."""
        self.reset_state()

    def get_config(self) -> dict[str, Any]:
        """Its name."""
        return {"name": self.name}
