"""LinearCosineDecay: a cosine wave times a line that falls."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.tensor import Tensor
from distopt.optimizers.schedules.schedule import LearningRateSchedule, rate_array, step_array, tensor_of

__all__ = ["LinearCosineDecay"]


class LinearCosineDecay(LearningRateSchedule):
    """Decays along a cosine wave that is multiplied by a line.

    ``rate * ((alpha + (n - s) / n) * (1 + cos(2 pi num_periods s / n)) / 2 + beta)`` with
    n = ``decay_steps`` and s = min(step, n).

    Source: Bello et al., "Neural Optimizer Search with Reinforcement Learning" (2017), with the arguments of
    TF 2.4.

    Args:
        initial_learning_rate: the factor of the whole formula.
        decay_steps: the length of the decay in steps.
        num_periods: the number of cosine periods in the decay.
        alpha: is added to the line.
        beta: is added to the product; the fraction of the rate that remains.
        name: a label.

    >>> float(LinearCosineDecay(1.0, decay_steps=10, beta=0.5)(10))
    0.5
    """

    def __init__(
        self,
        initial_learning_rate: Any,
        decay_steps: Any,
        num_periods: Any = 0.5,
        alpha: Any = 0.0,
        beta: Any = 0.001,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.num_periods = num_periods
        self.alpha = alpha
        self.beta = beta
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        """Returns the learning rate at ``step``, with the shape of ``step``."""
        initial = rate_array(self.initial_learning_rate)
        dtype = initial.dtype
        total = step_array(self.decay_steps, dtype)
        alpha, beta = step_array(self.alpha, dtype), step_array(self.beta, dtype)
        periods = step_array(self.num_periods, dtype)
        with np.errstate(all="ignore"):
            now = np.minimum(step_array(step, dtype), total)
            line = (total - now) / total
            cosine = dtype.type(0.5) * (1 + np.cos(dtype.type(2 * np.pi) * periods * now / total))
            return tensor_of(initial * ((alpha + line) * cosine + beta), dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "num_periods": self.num_periods,
            "alpha": self.alpha,
            "beta": self.beta,
            "name": self.name,
        }
