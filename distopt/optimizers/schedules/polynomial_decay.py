"""PolynomialDecay: from one rate to another along a polynomial."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.checks import as_flag
from distopt.core.tensor import Tensor
from distopt.optimizers.schedules.schedule import LearningRateSchedule, rate_array, step_array, tensor_of

__all__ = ["PolynomialDecay"]


class PolynomialDecay(LearningRateSchedule):
    """Decays from one rate to another along a polynomial (TF 2.4).

    ``(initial - end) * (1 - min(step, n) / n) ** power + end`` with n = ``decay_steps``.

    Args:
        initial_learning_rate: the rate at step 0.
        decay_steps: the number of steps until the rate is ``end_learning_rate``.
        end_learning_rate: the final rate.
        power: the exponent; 1 is linear.
        cycle: whether n grows to its next multiple once the step passes it. Otherwise the rate stays at its
            final value.
        name: a label.

    >>> float(PolynomialDecay(1.0, decay_steps=4, end_learning_rate=0.5)(2))
    0.75
    """

    def __init__(
        self,
        initial_learning_rate: Any,
        decay_steps: Any,
        end_learning_rate: Any = 0.0001,
        power: Any = 1.0,
        cycle: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.end_learning_rate = end_learning_rate
        self.power = power
        self.cycle = as_flag(cycle, "cycle")
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        """Returns the learning rate at ``step``, with the shape of ``step``."""
        initial = rate_array(self.initial_learning_rate)
        dtype = initial.dtype
        now, total = step_array(step, dtype), step_array(self.decay_steps, dtype)
        end, power = step_array(self.end_learning_rate, dtype), step_array(self.power, dtype)
        with np.errstate(all="ignore"):
            if self.cycle:
                total = total * np.where(now == 0, dtype.type(1), np.ceil(now / total))
            else:
                now = np.minimum(now, total)
            return tensor_of((initial - end) * np.power(1 - now / total, power) + end, dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "end_learning_rate": self.end_learning_rate,
            "power": self.power,
            "cycle": self.cycle,
            "name": self.name,
        }
