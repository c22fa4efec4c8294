"""CosineDecayRestarts: cosine decays one after the other, each longer and lower than the last."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.tensor import Tensor
from distopt.optimizers.schedules.schedule import LearningRateSchedule, rate_array, step_array, tensor_of

__all__ = ["CosineDecayRestarts"]


class CosineDecayRestarts(LearningRateSchedule):
    """Cosine decay that restarts when it has ended.

    Source: Loshchilov and Hutter, "SGDR" (2016); arguments of TF 2.4. Period i lasts
    ``first_decay_steps * t_mul ** i`` steps and starts at ``initial_learning_rate * m_mul ** i``.

    Args:
        initial_learning_rate: the rate at step 0.
        first_decay_steps: the length of the first period in steps.
        t_mul: the ratio of each period's length to that of the period before.
        m_mul: the ratio of each period's first rate to that of the period before.
        alpha: the lowest rate as a fraction of ``initial_learning_rate``.
        name: a label.

    >>> float(CosineDecayRestarts(1.0, first_decay_steps=10, m_mul=0.5)(10))
    0.5
    """

    def __init__(
        self,
        initial_learning_rate: Any,
        first_decay_steps: Any,
        t_mul: Any = 2.0,
        m_mul: Any = 1.0,
        alpha: Any = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.initial_learning_rate = initial_learning_rate
        self.first_decay_steps = first_decay_steps
        # The configs of TF call these t_mul and m_mul, its attributes have an underscore.
        self._t_mul = t_mul
        self._m_mul = m_mul
        self.alpha = alpha
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        """The learning rate at ``step``, of its shape."""
        initial = rate_array(self.initial_learning_rate)
        dtype = initial.dtype
        t_mul, m_mul = step_array(self._t_mul, dtype), step_array(self._m_mul, dtype)
        alpha = step_array(self.alpha, dtype)
        with np.errstate(all="ignore"):
            done = step_array(step, dtype) / step_array(self.first_decay_steps, dtype)
            if np.all(t_mul == 1):
                period = np.floor(done)
                done = done - period
            else:
                # The start of period i is the geometric sum (1 - t^i) / (1 - t).
                period = np.floor(np.log(1 - done * (1 - t_mul)) / np.log(t_mul))
                length = np.power(t_mul, period)
                done = (done - (1 - length) / (1 - t_mul)) / length
            height = np.power(m_mul, period)
            cosine = dtype.type(0.5) * height * (1 + np.cos(dtype.type(np.pi) * done))
            return tensor_of(initial * ((1 - alpha) * cosine + alpha), dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "first_decay_steps": self.first_decay_steps,
            "t_mul": self._t_mul,
            "m_mul": self._m_mul,
            "alpha": self.alpha,
            "name": self.name,
        }
