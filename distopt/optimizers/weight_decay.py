"""Decoupled weight decay as one of the coefficients of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distopt.core.tensor import as_array
from distopt.engine.plan import Kind
from distopt.engine.rule import DECAY
from distopt.optimizers.variable_factors import Factors

if TYPE_CHECKING:
    from distopt.optimizers.optimizer import Optimizer

__all__ = ["add_decay"]


def add_decay(optimizer: Optimizer, kind: Kind, coefficients: dict[str, Any]) -> None:
    """Adds the coefficient ``DECAY``, the weight decay times the learning rate of this step, if it is not 0.

    Args:
        optimizer: the optimizer.
        kind: the kind of the variables, with their Factors if they have any.
        coefficients: the coefficients of the step for this kind. ``lr_t`` is the learning rate, if present.

    Raises:
        KeyError: the optimizer has no learning rate.
    """
    place, dtype = kind
    decay = optimizer.weight_decay or 0.0
    if isinstance(place, Factors):
        decay *= place.weight_decay
    if decay:
        rate = as_array(coefficients["lr_t"] if "lr_t" in coefficients else optimizer._decayed_lr(dtype))[()]
        coefficients[DECAY] = rate.dtype.type(decay) * rate
