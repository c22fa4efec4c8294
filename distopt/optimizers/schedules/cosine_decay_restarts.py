"""CosineDecayRestarts: a series of cosine decays of different lengths and heights."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.tensor import Tensor
from distopt.optimizers.schedules.schedule import LearningRateSchedule, rate_array, step_array, tensor_of

__all__ = ["CosineDecayRestarts"]


class CosineDecayRestarts(LearningRateSchedule):
    """Cosine decay with restarts.

    Period i lasts ``first_decay_steps * t_mul ** i`` steps and starts at
    ``initial_learning_rate * m_mul ** i``.

    Source: Loshchilov and Hutter, "SGDR" (2016), with the arguments of TF 2.4.

    Args:
        initial_learning_rate: the rate at step 0.
        first_decay_steps: the length of the first period in steps.
        t_mul: the length of each period relative to the previous one.
        m_mul: the initial rate of each period relative to that of the previous one.
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
        """Returns the learning rate at ``step``, with the shape of ``step``."""
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
        """Returns the arguments of the constructor."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "first_decay_steps": self.first_decay_steps,
            "t_mul": self._t_mul,
            "m_mul": self._m_mul,
            "alpha": self.alpha,
            "name": self.name,
        }
