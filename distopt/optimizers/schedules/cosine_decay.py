"""CosineDecay: half a cosine wave, with an optional linear warm-up."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.tensor import Tensor, as_array
from distopt.optimizers.schedules.schedule import LearningRateSchedule, rate_array, step_array, tensor_of
from distopt.typing import Array

__all__ = ["CosineDecay"]


class CosineDecay(LearningRateSchedule):
    """Decays the learning rate along half a cosine wave, after an optional linear warm-up.

    ``rate * ((1 - alpha) * (1 + cos(pi * min(step, n) / n)) / 2 + alpha)``, n = ``decay_steps``.

    Source: Loshchilov and Hutter, "SGDR" (2016). The arguments are those of TF 2.4; those of the warm-up are
    from TF 2.15.

    Args:
        initial_learning_rate: the rate at step 0.
        decay_steps: the length of the decay in steps.
        alpha: the final rate as a fraction of the initial one.
        name: a label.
        warmup_target: the rate at the end of the warm-up, from which the decay starts; None for no warm-up.
        warmup_steps: the length of the warm-up, which precedes the decay.

    >>> float(CosineDecay(1.0, decay_steps=10, alpha=0.25)(10))
    0.25
    """

    def __init__(
        self,
        initial_learning_rate: Any,
        decay_steps: Any,
        alpha: Any = 0.0,
        name: str | None = None,
        warmup_target: Any = None,
        warmup_steps: Any = 0,
    ) -> None:
        super().__init__()
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.alpha = alpha
        self.name = name
        self.warmup_target = warmup_target
        self.warmup_steps = warmup_steps

    def __call__(self, step: Any) -> Tensor:
        """Returns the learning rate at ``step``, with the shape of ``step``."""
        initial = rate_array(self.initial_learning_rate)
        dtype = initial.dtype
        now = step_array(step, dtype)
        if self.warmup_target is None:
            return tensor_of(self._decayed(initial, now), dtype)
        target, length = step_array(self.warmup_target, dtype), step_array(self.warmup_steps, dtype)
        decayed = self._decayed(target, now - length)
        with np.errstate(all="ignore"):
            rising = now / length * (target - initial) + initial
        return tensor_of(np.where(now < length, rising, decayed), dtype)

    def _decayed(self, rate: Array, step: Array) -> Array:
        total, alpha = step_array(self.decay_steps, rate.dtype), step_array(self.alpha, rate.dtype)
        with np.errstate(all="ignore"):
            done = np.minimum(step, total) / total
            cosine = rate.dtype.type(0.5) * (1 + np.cos(rate.dtype.type(np.pi) * done))
            return np.asarray(rate * ((1 - alpha) * cosine + alpha))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        config = {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "alpha": self.alpha,
            "name": self.name,
        }
        # Without a warm-up, the config is that of TF 2.4, which lacks the arguments of the warm-up.
        if self.warmup_target is not None or np.any(as_array(self.warmup_steps)):
            config |= {"warmup_target": self.warmup_target, "warmup_steps": self.warmup_steps}
        return config
