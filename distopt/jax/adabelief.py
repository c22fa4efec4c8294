"""AdaBelief."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distopt.jax.optimizer import ApplyOptions, Optimizer
from distopt.jax.rules.adabelief import AdaBeliefRule

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["adabelief"]


def adabelief(
    learning_rate: Any,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-16,
    eps_root: float = 1e-16,
    *,
    nesterov: bool = False,
    **options: Unpack[ApplyOptions],
) -> Optimizer:
    """``optax.adabelief`` over all replicas.

    Args:
        learning_rate: a number, or a schedule: a function of the number of steps made, as in optax.
        b1: the decay rate of the running mean of the gradient.
        b2: the decay rate of the running mean of the squared distance from that mean.
        eps: added to the denominator for numerical stability.
        eps_root: added to the running mean of squares in each step, where it stays.
        nesterov: whether to use Nesterov momentum.
        **options: see ApplyOptions.

    Source: Zhuang et al. 2020, arXiv:2010.07468; ``optax.adabelief``.
    """
    return Optimizer("adabelief", AdaBeliefRule(b1, b2, eps, eps_root, nesterov), learning_rate, options)
