"""RAdam."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distopt.jax.optimizer import ApplyOptions, Optimizer
from distopt.jax.rules.radam import RAdamRule

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["radam"]


def radam(
    learning_rate: Any,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    threshold: float = 5.0,
    *,
    nesterov: bool = False,
    **options: Unpack[ApplyOptions],
) -> Optimizer:
    """``optax.radam`` over all replicas.

    Args:
        learning_rate: a number, or a schedule: a function of the number of steps made, as in optax.
        b1: the decay rate of the running mean of the gradient.
        b2: the decay rate of the running mean of the squared gradient.
        eps: added to the denominator for numerical stability.
        eps_root: added under the square root.
        threshold: the length of the approximated simple moving average from which on the variance is
            rectified; more than 4.
        nesterov: whether to use Nesterov momentum.
        **options: see ApplyOptions.

    Source: Liu et al. 2019, arXiv:1908.03265; ``optax.radam``.
    """
    rule = RAdamRule(b1, b2, eps, eps_root, threshold, nesterov)
    return Optimizer("radam", rule, learning_rate, options)
