"""What compile() makes of its arguments: optimizer, loss, metrics."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from distopt import optimizers
from distopt.core import IndexedSlices, Variable
from distopt.core.tensor import as_array
from distopt.keras.callbacks.callback import is_chief
from distopt.keras.training.accumulation import GradientAccumulator
from distopt.keras.training.compiled_loss import CompiledLoss
from distopt.keras.training.compiled_metrics import CompiledMetrics
from distopt.keras.training.loss_metric import LossMetric

__all__ = ["Compiled"]

_log = logging.getLogger("distopt")


class Compiled:
    """A model's optimizer, loss and metrics, and what a step does with them.

    Args:
        optimizer: an optimizer, or its name or config.
        loss: see :class:`CompiledLoss`.
        metrics: see :class:`CompiledMetrics`.
        loss_weights: a number for each output's loss.
        weighted_metrics: metrics that take sample weights into account.
        steps_per_update: the number of batches that make one update.

    Raises:
        ValueError: a name is unknown.
    """

    def __init__(
        self,
        optimizer: Any,
        loss: Any,
        metrics: Any = None,
        loss_weights: Any = None,
        weighted_metrics: Any = None,
        steps_per_update: int = 1,
    ) -> None:
        self.optimizer: optimizers.Optimizer = optimizers.get(optimizer)
        self.loss = CompiledLoss(loss, loss_weights)
        self.metrics = CompiledMetrics(metrics, weighted_metrics)
        self._accumulator = GradientAccumulator(steps_per_update)
        self._local: int | None = None
        self._size = 1
        #: The names of the last results, None before the first ones.
        self.result_names: list[str] | None = None
        self._warned_of_nothing = False

    def share_is(self, local: int, size: int) -> None:
        """Says how many of the next batch's ``size`` examples are on this replica."""
        self._local, self._size = local, size
        self.loss.share_is(local, size)

    def minimize(self, tape: Any, loss: Any, variables: Sequence[Variable]) -> None:
        """Updates the variables by the gradients of this replica's loss, or keeps these for later."""
        if not variables:
            self._warn_of_nothing()
        factor = optimizers.loss_factor(self.optimizer)
        if factor != 1.0:
            with tape:
                loss = loss * loss.dtype.type(factor)
        if self._accumulator.steps == 1 and self._local != 0:
            self.optimizer.minimize(loss, list(variables), tape=tape)
            return
        gradients = self._gradients(tape, loss, list(variables))
        if self._local == 0:
            # A mean over no examples is NaN, and so is what a weight gets that is multiplied with it.
            gradients = [_nothing(gradient) for gradient in gradients]
        if self._accumulator.steps == 1:
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        elif self._accumulator.add(gradients, variables, self._size):
            self.finish_updates()

    def _gradients(self, tape: Any, loss: Any, variables: list[Variable]) -> list[Any]:
        if isinstance(self.optimizer, optimizers.LossScaleOptimizer):
            return self.optimizer.unscaled_gradients(tape, loss, variables)
        return list(tape.gradient(loss, variables))

    def _warn_of_nothing(self) -> None:
        if not self._warned_of_nothing and is_chief():
            _log.warning(
                "there is nothing to train: the model has no weight that was trainable when it was compiled "
                "(see layer.trainable), so its steps change none"
            )
        self._warned_of_nothing = True

    @property
    def pending(self) -> bool:
        """Whether gradients of past batches still wait to be applied."""
        return self._accumulator.pending

    def finish_updates(self) -> None:
        """Applies what gradients were kept."""
        pairs = self._accumulator.take()
        if pairs:
            self.optimizer.apply_gradients(pairs)

    def reset(self) -> None:
        """Resets losses and metrics."""
        self.loss.reset()
        self.metrics.reset_state()

    def local_loss(self) -> float:
        """The mean loss of this replica's examples so far, to show while others are at work."""
        return self.loss.local_mean()

    @property
    def all_metrics(self) -> list[Any]:
        """The loss, those of several outputs, and the metrics, as far as they are known."""
        losses = [LossMetric(self.loss, name) for name in self.loss.names] if self.loss.used else []
        return [*losses, *self.metrics.metrics]


def _nothing(gradient: Any) -> Any:
    """Zeros in place of a gradient, if there is one."""
    if isinstance(gradient, IndexedSlices):
        return IndexedSlices(np.zeros_like(as_array(gradient.values)), gradient.indices, gradient.dense_shape)
    return None if gradient is None else np.zeros_like(as_array(gradient))
