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
        learning_rate: a number, or a schedule: a function of the number of steps made, as in optax.
        initial_accumulator_value: the initial value of the sums of squares.
        eps: added to the denominator for numerical stability.
        **options: see ApplyOptions.

    Source: Duchi et al. 2011, "Adaptive Subgradient Methods"; ``optax.adagrad``.
    """
    return Optimizer("adagrad", AdagradRule(initial_accumulator_value, eps), learning_rate, options)
