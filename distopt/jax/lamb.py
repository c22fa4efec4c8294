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
    """``optax.lamb`` over all replicas: Adam with each step scaled to the norm of its leaf.

    Args:
        learning_rate: a number, or a schedule: a function of the number of steps made, as in optax.
        b1: the decay rate of the running mean of the gradient.
        b2: the decay rate of the running mean of the squared gradient.
        eps: added to the denominator for numerical stability.
        eps_root: added under the square root.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the direction. A
            number or a schedule.
        mask: which leaves decay: a pytree of Booleans like the parameters, or a function that returns one.
        **options: see ApplyOptions.

    Source: You et al. 2019, arXiv:1904.00962; ``optax.lamb``.
    """
    return Optimizer("lamb", LambRule(b1, b2, eps, eps_root), learning_rate, options, weight_decay, mask)
