"""OneCycle: a rise to a high rate, then a fall to a very low one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from distopt.core.checks import as_flag, as_one_of
from distopt.core.tensor import Tensor
from distopt.optimizers.schedules.schedule import LearningRateSchedule, rate_array, step_array, tensor_of

__all__ = ["OneCycle"]


class OneCycle(LearningRateSchedule):
    """Raises the learning rate to a maximum, then lowers it to a very small value.

    The rate goes from ``max / div_factor`` to ``max``, then to ``max / div_factor / final_div_factor``. The
    numerics are those of PyTorch's OneCycleLR. The maximum is at step ``pct_start * total_steps - 1``. The
    final rate is reached at step ``total_steps - 1`` and remains.

    Source: Smith and Topin 2017, "Super-Convergence", arXiv:1708.07120, with the arguments of PyTorch.

    Args:
        max_learning_rate: the highest rate.
        total_steps: the length of the cycle.
        pct_start: the fraction of the cycle in which the rate rises, between 0 and 1.
        anneal_strategy: the shape of the rise and the fall: "cos" (half a wave) or "linear".
        div_factor: the highest rate divided by the initial one.
        final_div_factor: the initial rate divided by the final one.
        three_phase: whether the fall has two parts: to the initial rate, as long as the rise, and then to
            the final rate.
        name: a label.

    Raises:
        ValueError: ``anneal_strategy`` is unknown.

    >>> schedule = OneCycle(1.0, total_steps=10, pct_start=0.5, div_factor=4.0, final_div_factor=8.0)
    >>> [float(schedule(step)) for step in (0, 2, 4, 9)]
    [0.25, 0.625, 1.0, 0.03125]
    """

    def __init__(
        self,
        max_learning_rate: Any,
        total_steps: Any,
        pct_start: Any = 0.3,
        anneal_strategy: str = "cos",
        div_factor: Any = 25.0,
        final_div_factor: Any = 1e4,
        three_phase: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.max_learning_rate = max_learning_rate
        self.total_steps = total_steps
        self.pct_start = pct_start
        self.anneal_strategy = as_one_of(anneal_strategy, "anneal_strategy", ("cos", "linear"))
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor
        self.three_phase = as_flag(three_phase, "three_phase")
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        """Returns the learning rate at ``step``, with the shape of ``step``."""
        highest = rate_array(self.max_learning_rate)
        dtype = highest.dtype
        now, total = step_array(step, dtype), step_array(self.total_steps, dtype)
        share = step_array(self.pct_start, dtype)
        first = highest / step_array(self.div_factor, dtype)
        last = first / step_array(self.final_div_factor, dtype)
        peak = share * total - 1
        corners = [(dtype.type(0), first), (peak, highest)]
        if self.three_phase:
            corners.append((2 * share * total - 2, first))
        corners.append((total - 1, last))
        rate = first
        with np.errstate(all="ignore"):
            for (begin, low), (end, high) in pairwise(corners):
                done = np.clip((now - begin) / (end - begin), dtype.type(0), dtype.type(1))
                left = (
                    (1 + np.cos(dtype.type(np.pi) * done)) / 2 if self.anneal_strategy == "cos" else 1 - done
                )
                rate = np.where(now > begin, high + (low - high) * left, rate)
        return tensor_of(rate, dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            "max_learning_rate": self.max_learning_rate,
            "total_steps": self.total_steps,
            "pct_start": self.pct_start,
            "anneal_strategy": self.anneal_strategy,
            "div_factor": self.div_factor,
            "final_div_factor": self.final_div_factor,
            "three_phase": self.three_phase,
            "name": self.name,
        }
