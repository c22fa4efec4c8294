"""LAMB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distopt.jax.optimizer import ApplyOptions, Optimizer
from distopt.jax.rules.lamb import LambRule

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["lamb"]


def lamb(
    learning_rate: Any,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    eps_root: float = 0.0,
    weight_decay: Any = 0.0,
    mask: Any = None,
    **options: Unpack[ApplyOptions],
) -> Optimizer:
    """``optax.lamb`` over all replicas: Adam's direction, with a step length of each leaf's own.

    Args:
        learning_rate: a number, or a function of the number of steps made, as optax's schedules are.
        b1: decay of the mean of the gradient.
        b2: decay of the mean of its square.
        eps: keeps the divisor above zero.
        eps_root: is added to the square before its root is taken.
        weight_decay: times the parameter is added to the direction; a number or a schedule.
        mask: a pytree of Booleans like the parameters, or a function that makes it of them: what decays.
        **options: see ApplyOptions.

    Source: You et al. 2019, arXiv:1904.00962; ``optax.lamb``.
    """
    return Optimizer("lamb", LambRule(b1, b2, eps, eps_root), learning_rate, options, weight_decay, mask)
