"""WarmupStableDecay: a warm-up, a plateau, and a decay at the end."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.checks import as_one_of
from distopt.core.tensor import Tensor
from distopt.optimizers.schedules.schedule import LearningRateSchedule, rate_array, step_array, tensor_of

__all__ = ["WarmupStableDecay"]

#: Functions from the completed fraction of the decay, ``done``, to the factor of the rate, from 1 to 0.
_SHAPES = {
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + np.cos(done.dtype.type(np.pi) * done)) / 2,
    "sqrt": lambda done: 1 - np.sqrt(done),
}


class WarmupStableDecay(LearningRateSchedule):
    """Rises linearly to ``learning_rate``, keeps it, and decays to ``end_learning_rate`` at the end.

    You can prolong the plateau as long as you like. Only the decay depends on the end of the training.

    Source: Hu et al. 2024, "MiniCPM", arXiv:2404.06395. The decay of 1 - sqrt is from Hägele et al. 2024,
    arXiv:2405.18392.

    Args:
        learning_rate: the rate of the plateau.
        warmup_steps: the length of the warm-up; 0 for none.
        stable_steps: the length of the plateau.
        decay_steps: the length of the decay; with 0 the rate drops at once.
        initial_learning_rate: the rate at step 0, if there is a warm-up.
        end_learning_rate: the rate after the decay.
        decay: the shape of the decay: "linear", "cosine" (half a wave) or "sqrt" (1 minus the square root of
            the fraction that has passed).
        name: a label.

    Raises:
        ValueError: ``decay`` is unknown.

    >>> schedule = WarmupStableDecay(1.0, warmup_steps=4, stable_steps=10, decay_steps=8)
    >>> [float(schedule(step)) for step in (0, 2, 4, 14, 20, 22)]
    [0.0, 0.5, 1.0, 1.0, 0.25, 0.0]
    """

    def __init__(
        self,
        learning_rate: Any,
        warmup_steps: Any,
        stable_steps: Any,
        decay_steps: Any,
        initial_learning_rate: Any = 0.0,
        end_learning_rate: Any = 0.0,
        decay: str = "linear",
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.stable_steps = stable_steps
        self.decay_steps = decay_steps
        self.initial_learning_rate = initial_learning_rate
        self.end_learning_rate = end_learning_rate
        self.decay = as_one_of(decay, "decay", tuple(_SHAPES))
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        """Returns the learning rate at ``step``, with the shape of ``step``."""
        rate = rate_array(self.learning_rate)
        dtype = rate.dtype
        now, rise = step_array(step, dtype), step_array(self.warmup_steps, dtype)
        plateau, fall = step_array(self.stable_steps, dtype), step_array(self.decay_steps, dtype)
        first = step_array(self.initial_learning_rate, dtype)
        last = step_array(self.end_learning_rate, dtype)
        with np.errstate(all="ignore"):
            rising = first + (rate - first) * (now / rise)
            done = np.clip((now - rise - plateau) / fall, dtype.type(0), dtype.type(1))
            falling = last + (rate - last) * _SHAPES[self.decay](done)
        over = now >= rise + plateau + fall
        stable = np.where(now <= rise + plateau, rate, falling)
        return tensor_of(np.where(now < rise, rising, np.where(over, last, stable)), dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
            "stable_steps": self.stable_steps,
            "decay_steps": self.decay_steps,
            "initial_learning_rate": self.initial_learning_rate,
            "end_learning_rate": self.end_learning_rate,
            "decay": self.decay,
            "name": self.name,
        }
