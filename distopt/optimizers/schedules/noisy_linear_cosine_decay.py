"""NoisyLinearCosineDecay: LinearCosineDecay with decaying noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.checks import as_seed
from distopt.core.random import stream
from distopt.core.tensor import Tensor, as_array
from distopt.optimizers.schedules.schedule import LearningRateSchedule, rate_array, step_array, tensor_of
from distopt.typing import Array

__all__ = ["NoisyLinearCosineDecay"]

#: The ``purpose`` of the schedule's random numbers, see ``stream``.
_PURPOSE = 0x5C4ED


class NoisyLinearCosineDecay(LearningRateSchedule):
    """Adds decaying noise to :class:`LinearCosineDecay`.

    ``rate * ((alpha + (n - s) / n + noise) * (1 + cos(2 pi num_periods s / n)) / 2 + beta)`` with
    n = ``decay_steps`` and s = min(step, n).

    The noise is normal with the variance ``initial_variance / (1 + s) ** variance_decay``. It depends only on
    the seed and the step, so all replicas get the same rate and a run can be repeated.

    Source: Bello et al., "Neural Optimizer Search with Reinforcement Learning" (2017), with the arguments of
    TF 2.4, and ``seed`` of later versions.

    Args:
        initial_learning_rate: the factor of the whole formula.
        decay_steps: the length of the decay in steps.
        initial_variance: the variance of the noise at step 0.
        variance_decay: the exponent with which the variance decays.
        num_periods: the number of cosine periods.
        alpha: is added to the line.
        beta: is added to the product.
        name: a label.
        seed: the seed of the noise; None is 0.

    >>> schedule = NoisyLinearCosineDecay(0.1, decay_steps=10)
    >>> float(schedule(3)) == float(schedule(3))
    True
    """

    def __init__(
        self,
        initial_learning_rate: Any,
        decay_steps: Any,
        initial_variance: Any = 1.0,
        variance_decay: Any = 0.55,
        num_periods: Any = 0.5,
        alpha: Any = 0.0,
        beta: Any = 0.001,
        name: str | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.initial_variance = initial_variance
        self.variance_decay = variance_decay
        self.num_periods = num_periods
        self.alpha = alpha
        self.beta = beta
        self.name = name
        self.seed = as_seed(seed)

    def __call__(self, step: Any) -> Tensor:
        """Returns the learning rate at ``step``, with the shape of ``step``."""
        initial = rate_array(self.initial_learning_rate)
        dtype = initial.dtype
        total = step_array(self.decay_steps, dtype)
        variance, fall = step_array(self.initial_variance, dtype), step_array(self.variance_decay, dtype)
        alpha, beta = step_array(self.alpha, dtype), step_array(self.beta, dtype)
        periods = step_array(self.num_periods, dtype)
        with np.errstate(all="ignore"):
            now = np.minimum(step_array(step, dtype), total)
            noise = np.sqrt(variance / np.power(1 + now, fall)) * self._normal(as_array(step), dtype)
            line = (total - now) / total + noise
            cosine = dtype.type(0.5) * (1 + np.cos(dtype.type(2 * np.pi) * periods * now / total))
            return tensor_of(initial * ((alpha + line) * cosine + beta), dtype)

    def _normal(self, steps: Array, dtype: np.dtype[Any]) -> Array:
        seed = self.seed or 0
        drawn = [stream(seed, step=int(s), purpose=_PURPOSE).standard_normal() for s in steps.reshape(-1)]
        return np.array(drawn, dtype).reshape(steps.shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        config = {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "initial_variance": self.initial_variance,
            "variance_decay": self.variance_decay,
            "num_periods": self.num_periods,
            "alpha": self.alpha,
            "beta": self.beta,
            "name": self.name,
        }
        return config if self.seed is None else config | {"seed": self.seed}
