"""Lion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distopt.jax.optimizer import ApplyOptions, Optimizer
from distopt.jax.rates import check_none
from distopt.jax.rules.lion import LionRule

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["lion"]


def lion(
    learning_rate: Any,
    b1: float = 0.9,
    b2: float = 0.99,
    mu_dtype: Any = None,
    weight_decay: Any = 1e-3,
    mask: Any = None,
    **options: Unpack[ApplyOptions],
) -> Optimizer:
    """``optax.lion`` over all replicas.

    Args:
        learning_rate: a number, or a schedule: a function of the number of steps made, as in optax.
        b1: the weight of the running mean in the update.
        b2: the decay rate of the running mean of the gradient.
        mu_dtype: must be None. The running mean has the dtype of the parameter.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the update. A number
            or a schedule.
        mask: which leaves decay: a pytree of Booleans like the parameters, or a function that returns one.
        **options: see ApplyOptions.

    Source: Chen et al. 2023, arXiv:2302.06675; ``optax.lion``.
    """
    check_none("mu_dtype", mu_dtype)
    return Optimizer("lion", LionRule(b1, b2), learning_rate, options, weight_decay, mask)
