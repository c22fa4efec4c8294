"""Adagrad."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distopt.jax.optimizer import ApplyOptions, Optimizer
from distopt.jax.rules.adagrad import AdagradRule

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["adagrad"]


def adagrad(
    learning_rate: Any,
    initial_accumulator_value: float = 0.1,
    eps: float = 1e-7,
    **options: Unpack[ApplyOptions],
) -> Optimizer:
    """``optax.adagrad`` over all replicas.

    Args:
        learning_rate: a number, or a function of the number of steps made, as optax's schedules are.
        initial_accumulator_value: what the sums of squares begin with.
        eps: keeps the divisor above zero.
        **options: see ApplyOptions.

    Source: Duchi et al. 2011, "Adaptive Subgradient Methods"; ``optax.adagrad``.
    """
    return Optimizer("adagrad", AdagradRule(initial_accumulator_value, eps), learning_rate, options)
