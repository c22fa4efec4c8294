"""OneCycle: up to a high rate and down to a very low one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from distopt.core.checks import as_flag, as_one_of
from distopt.core.tensor import Tensor
from distopt.optimizers.schedules.schedule import LearningRateSchedule, rate_array, step_array, tensor_of

__all__ = ["OneCycle"]


class OneCycle(LearningRateSchedule):
    """From ``max / div_factor`` up to ``max``, then down to ``max / div_factor / final_div_factor``.

    With the numbers of PyTorch's OneCycleLR: the peak is at step ``pct_start * total_steps - 1``, the last
    rate at step ``total_steps - 1``, and it stays.

    Source: Smith and Topin 2017, "Super-Convergence", arXiv:1708.07120; arguments of PyTorch.

    Args:
        max_learning_rate: the highest rate.
        total_steps: the length of the cycle.
        pct_start: the share of it that rises, between 0 and 1.
        anneal_strategy: the shape of rise and fall: "cos" (half a wave) or "linear".
        div_factor: the highest rate by the first one.
        final_div_factor: the first rate by the last one.
        three_phase: whether the fall has two parts: back to the first rate, as long as the rise, then on to
            the last one.
        name: a label.

    Raises:
        ValueError: another shape.

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
        """The learning rate at ``step``, of its shape."""
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
        """The constructor's arguments."""
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
