"""ExponentialDecay: multiplies the rate by a constant factor every so many steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.checks import as_flag
from distopt.core.tensor import Tensor
from distopt.optimizers.schedules.schedule import LearningRateSchedule, rate_array, step_array, tensor_of

__all__ = ["ExponentialDecay"]


class ExponentialDecay(LearningRateSchedule):
    """Decays exponentially: ``initial_learning_rate * decay_rate ** (step / decay_steps)`` (TF 2.4).

    Args:
        initial_learning_rate: the rate at step 0.
        decay_steps: the number of steps after which the rate has been multiplied by ``decay_rate`` once.
        decay_rate: the factor.
        staircase: whether to round the exponent down, so that the rate changes in discrete steps.
        name: a label.

    >>> float(ExponentialDecay(1.0, decay_steps=10, decay_rate=0.5)(20))
    0.25
    """

    def __init__(
        self,
        initial_learning_rate: Any,
        decay_steps: Any,
        decay_rate: Any,
        staircase: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.decay_rate = decay_rate
        self.staircase = as_flag(staircase, "staircase")
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        """Returns the learning rate at ``step``, with the shape of ``step``."""
        initial = rate_array(self.initial_learning_rate)
        dtype = initial.dtype
        with np.errstate(all="ignore"):
            exponent = step_array(step, dtype) / step_array(self.decay_steps, dtype)
            if self.staircase:
                exponent = np.floor(exponent)
            return tensor_of(initial * np.power(step_array(self.decay_rate, dtype), exponent), dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "staircase": self.staircase,
            "name": self.name,
        }
