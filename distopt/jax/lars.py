"""LARS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distopt.jax.optimizer import ApplyOptions, Optimizer
from distopt.jax.rules.lars import LarsRule

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["lars"]


def lars(
    learning_rate: Any,
    weight_decay: Any = 0.0,
    weight_decay_mask: Any = True,
    trust_coefficient: float = 0.001,
    eps: float = 0.0,
    trust_ratio_mask: Any = True,
    momentum: float = 0.9,
    nesterov: bool = False,
    **options: Unpack[ApplyOptions],
) -> Optimizer:
    """``optax.lars`` over all replicas: momentum with a learning rate for each leaf.

    Args:
        learning_rate: a number, or a schedule: a function of the number of steps made, as in optax.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the gradient. A
            number or a schedule.
        weight_decay_mask: which leaves decay: a pytree of Booleans like the parameters, or a function that
            returns one.
        trust_coefficient: the ratio if parameter and direction have the same norm.
        eps: added to the norm of the direction.
        trust_ratio_mask: which leaves have a trust ratio, in the same form.
        momentum: the decay rate of the sum of the steps.
        nesterov: whether to use Nesterov momentum.
        **options: see ApplyOptions.

    Source: You et al. 2017, arXiv:1708.03888; ``optax.lars``.
    """
    rule = LarsRule(trust_coefficient, eps, momentum, nesterov)
    masks = weight_decay_mask, trust_ratio_mask
    return Optimizer("lars", rule, learning_rate, options, weight_decay, *masks)
