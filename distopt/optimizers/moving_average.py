"""MovingAverage: moving averages of an optimizer's variables, as in Keras 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core.assignment import assign_alike
from distopt.core.checks import as_count, as_flag
from distopt.core.variable import Variable
from distopt.engine.averages import AverageStep
from distopt.engine.step import StepEngine
from distopt.optimizers.limits import FRACTION, within

if TYPE_CHECKING:
    from distopt.optimizers.base_optimizer import BaseOptimizer

__all__ = ["MovingAverage", "average_config", "moving_average"]

#: The slot, and the constructor's arguments with their defaults.
_SLOT = "average"
_DEFAULTS: dict[str, Any] = {"use_ema": False, "ema_momentum": 0.99, "ema_overwrite_frequency": None}


class MovingAverage:
    """Keeps ``average = momentum * average + (1 - momentum) * variable`` after each step.

    The first step sets the average to the variable. The average includes the effect of constraints. A sparse
    gradient updates the averages of all rows.

    Args:
        momentum: from 0 to 1.
        overwrite_frequency: the number of steps after which variables are set to their averages, repeatedly;
            None for never.

    Source: Polyak and Juditsky 1992, with the arguments and numerics of Keras 3.
    """

    def __init__(self, momentum: float, overwrite_frequency: int | None) -> None:
        self.momentum = momentum
        self.overwrite_frequency = overwrite_frequency

    def make(self, optimizer: BaseOptimizer, variables: Sequence[Variable]) -> None:
        """Creates the missing averages, with the values of the variables."""
        for variable in optimizer._slots.lacking(variables, (_SLOT,)):
            optimizer.add_slot(variable, _SLOT, variable.numpy())

    def of(self, optimizer: BaseOptimizer, variables: Sequence[Variable]) -> tuple[Variable, ...]:
        """The averages of variables that have been in a step."""
        return tuple([optimizer.get_slot(variable, _SLOT) for variable in variables])

    def move(self, engine: StepEngine, optimizer: BaseOptimizer, variables: Sequence[Variable]) -> None:
        """Updates the averages after the update of a step that has not been counted yet."""
        made = int(optimizer.iterations.scalar())
        often = self.overwrite_frequency
        step = AverageStep(self.momentum if made else 0.0, often is not None and (made + 1) % often == 0)
        distinct = list(dict.fromkeys(variables))
        engine.average(distinct, self.of(optimizer, distinct), step)

    def finalize(self, optimizer: BaseOptimizer, variables: Sequence[Variable]) -> None:
        """Assigns the averages to the variables that have one."""
        for variable in variables:
            average = optimizer._slots.of(variable).get(_SLOT)
            if average is not None:
                assign_alike(variable, average.numpy())


def moving_average(optimizer: str, keywords: Mapping[str, Any]) -> MovingAverage | None:
    """Creates the averages that an optimizer's keyword arguments ask for; None without ``use_ema``.

    Args:
        optimizer: its name, for messages.
        keywords: the keyword arguments of the constructor.

    Raises:
        TypeError: a value has a wrong type.
        ValueError: the momentum is outside [0, 1], or the frequency is below 1.
    """
    use, momentum, often = ({**_DEFAULTS, **keywords}[name] for name in _DEFAULTS)
    momentum = float(within(FRACTION, momentum, f"ema_momentum of optimizer {optimizer!r}", np.float64))
    often = None if often is None else as_count(often, "ema_overwrite_frequency")
    return MovingAverage(momentum, often) if as_flag(use, "use_ema") else None


def average_config(average: MovingAverage | None) -> dict[str, Any]:
    """The arguments that differ from their defaults."""
    if average is None:
        return {}
    config = {
        "use_ema": True,
        "ema_momentum": average.momentum,
        "ema_overwrite_frequency": average.overwrite_frequency,
    }
    return {name: value for name, value in config.items() if value != _DEFAULTS[name]}
