"""Dropout: random zeros while training."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from distopt.core.checks import as_count, as_seed
from distopt.core.numbers import as_scalar
from distopt.core.random import stream
from distopt.keras.layers.layer import Layer
from distopt.keras.per_replica import this_replica

__all__ = ["Dropout"]

#: Keeps these numbers apart from the other uses of a seed.
_PURPOSE = 0xD709


class Dropout(Layer):
    """In training, sets a fraction of the elements to zero and scales the others by ``1/(1-rate)``.

    Srivastava et al. 2014. Each replica draws its own numbers from (seed, replica, call).

    Args:
        rate: the fraction of elements to drop, in [0, 1).
        seed: the seed. By default it is drawn from NumPy's global generator.
        **kwargs: arguments of :class:`Layer`.

    Raises:
        ValueError: ``rate`` is outside [0, 1).
    """

    _arithmetic = True

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= as_scalar(rate, f"rate of layer {self.name!r} (Dropout)") < 1:
            raise ValueError(f"rate of layer {self.name!r} (Dropout) must be in [0, 1); got {rate!r}")
        self.rate = float(rate)
        self._given_seed = as_seed(seed)
        self.seed = int(np.random.randint(2**31)) if self._given_seed is None else self._given_seed
        #: Calls so far, by replica: those of one process may share the layer.
        self._calls: Counter[int] = Counter()

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """See Layer."""
        if not training or self.rate == 0:
            return inputs
        replica = this_replica()
        rng = stream(self.seed, replica=replica, step=self._calls[replica], purpose=_PURPOSE)
        self._calls[replica] += 1
        kept = rng.random(inputs.shape, np.float32) >= self.rate
        return inputs * (kept * inputs.dtype.type(1 / (1 - self.rate)))

    def get_state(self) -> dict[str, int]:
        """Returns the state of its random numbers, for checkpoints."""
        return {"seed": self.seed, "calls": self._calls[this_replica()]}

    def check_state(self, state: Any) -> None:
        """Raises an error if :meth:`set_state` would not accept this state."""
        for name in ("seed", "calls"):
            as_count(state[name], name, least=0)

    def set_state(self, state: dict[str, int]) -> None:
        """Restores a state of :meth:`get_state`."""
        self.seed, self._calls[this_replica()] = state["seed"], state["calls"]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """See Layer."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """See Layer."""
        return {**super().get_config(), "rate": self.rate, "seed": self._given_seed}
