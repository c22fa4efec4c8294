"""Adam and its relatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distopt.jax.optimizer import ApplyOptions, Optimizer
from distopt.jax.rates import check_none
from distopt.jax.rules.adam import AdamRule

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["adam", "adamw", "nadam", "nadamw"]


def adam(
    learning_rate: Any,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    **options: Unpack[ApplyOptions],
) -> Optimizer:
    """``optax.adam`` over all replicas.

    Args:
        learning_rate: a number, or a schedule: a function of the number of steps made, as in optax.
        b1: the decay rate of the running mean of the gradient.
        b2: the decay rate of the running mean of the squared gradient.
        eps: added to the denominator for numerical stability.
        eps_root: added under the square root.
        mu_dtype: must be None. The running mean has the dtype of the parameter.
        nesterov: whether to use Nesterov momentum.
        **options: see ApplyOptions.

    Source: Kingma & Ba 2014, arXiv:1412.6980; ``optax.adam``.
    """
    check_none("mu_dtype", mu_dtype)
    return Optimizer("adam", AdamRule(b1, b2, eps, eps_root, nesterov), learning_rate, options)


def adamw(
    learning_rate: Any,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    weight_decay: Any = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = False,
    **options: Unpack[ApplyOptions],
) -> Optimizer:
    """``optax.adamw`` over all replicas: Adam with decoupled weight decay.

    Args:
        learning_rate: a number, or a schedule: a function of the number of steps made, as in optax.
        b1: the decay rate of the running mean of the gradient.
        b2: the decay rate of the running mean of the squared gradient.
        eps: added to the denominator for numerical stability.
        eps_root: added under the square root.
        mu_dtype: must be None. The running mean has the dtype of the parameter.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the update. A number
            or a schedule.
        mask: which leaves decay: a pytree of Booleans like the parameters, or a function that returns one.
        nesterov: whether to use Nesterov momentum.
        **options: see ApplyOptions.

    Source: Loshchilov & Hutter 2017, arXiv:1711.05101; ``optax.adamw``.
    """
    check_none("mu_dtype", mu_dtype)
    return Optimizer(
        "adamw", AdamRule(b1, b2, eps, eps_root, nesterov), learning_rate, options, weight_decay, mask
    )


def nadam(
    learning_rate: Any,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    **options: Unpack[ApplyOptions],
) -> Optimizer:
    """``optax.nadam`` over all replicas: Adam with Nesterov momentum.

    Args:
        learning_rate: a number, or a schedule: a function of the number of steps made, as in optax.
        b1: the decay rate of the running mean of the gradient.
        b2: the decay rate of the running mean of the squared gradient.
        eps: added to the denominator for numerical stability.
        eps_root: added under the square root.
        mu_dtype: must be None. The running mean has the dtype of the parameter.
        **options: see ApplyOptions.

    Source: Dozat 2016, "Incorporating Nesterov Momentum into Adam"; ``optax.nadam``.
    """
    check_none("mu_dtype", mu_dtype)
    return Optimizer("nadam", AdamRule(b1, b2, eps, eps_root, nesterov=True), learning_rate, options)


def nadamw(
    learning_rate: Any,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    weight_decay: Any = 1e-4,
    mask: Any = None,
    **options: Unpack[ApplyOptions],
) -> Optimizer:
    """``optax.nadamw`` over all replicas: NAdam with decoupled weight decay.

    Args:
        learning_rate: a number, or a schedule: a function of the number of steps made, as in optax.
        b1: the decay rate of the running mean of the gradient.
        b2: the decay rate of the running mean of the squared gradient.
        eps: added to the denominator for numerical stability.
        eps_root: added under the square root.
        mu_dtype: must be None. The running mean has the dtype of the parameter.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the update. A number
            or a schedule.
        mask: which leaves decay: a pytree of Booleans like the parameters, or a function that returns one.
        **options: see ApplyOptions.

    Source: Dozat 2016, "Incorporating Nesterov Momentum into Adam"; ``optax.nadamw``.
    """
    check_none("mu_dtype", mu_dtype)
    return Optimizer(
        "nadamw", AdamRule(b1, b2, eps, eps_root, nesterov=True), learning_rate, options, weight_decay, mask
    )
