"""Adamax and AdamaxW."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distopt.jax.optimizer import ApplyOptions, Optimizer
from distopt.jax.rules.adamax import AdamaxRule

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["adamax", "adamaxw"]


def adamax(
    learning_rate: Any,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    **options: Unpack[ApplyOptions],
) -> Optimizer:
    """``optax.adamax`` over all replicas.

    Args:
        learning_rate: a number, or a schedule: a function of the number of steps made, as in optax.
        b1: the decay rate of the running mean of the gradient.
        b2: the decay rate of the largest absolute value of the gradient.
        eps: added to the absolute values.
        **options: see ApplyOptions.

    Source: Kingma & Ba 2014, arXiv:1412.6980; ``optax.adamax``.
    """
    return Optimizer("adamax", AdamaxRule(b1, b2, eps), learning_rate, options)


def adamaxw(
    learning_rate: Any,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: Any = 1e-4,
    mask: Any = None,
    **options: Unpack[ApplyOptions],
) -> Optimizer:
    """``optax.adamaxw`` over all replicas: Adamax with decoupled weight decay.

    Args:
        learning_rate: a number, or a schedule: a function of the number of steps made, as in optax.
        b1: the decay rate of the running mean of the gradient.
        b2: the decay rate of the largest absolute value of the gradient.
        eps: added to the absolute values.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the update. A number
            or a schedule.
        mask: which leaves decay: a pytree of Booleans like the parameters, or a function that returns one.
        **options: see ApplyOptions.

    Source: Loshchilov & Hutter 2017, arXiv:1711.05101; ``optax.adamaxw``.
    """
    return Optimizer("adamaxw", AdamaxRule(b1, b2, eps), learning_rate, options, weight_decay, mask)
