"""RMSprop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distopt.jax.optimizer import ApplyOptions, Optimizer
from distopt.jax.rules.rmsprop import RMSpropRule

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["rmsprop"]


def rmsprop(
    learning_rate: Any,
    decay: float = 0.9,
    eps: float = 1e-8,
    initial_scale: float = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: float | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
    **options: Unpack[ApplyOptions],
) -> Optimizer:
    """``optax.rmsprop`` over all replicas.

    Args:
        learning_rate: a number, or a schedule: a function of the number of steps made, as in optax.
        decay: the decay rate of the running means.
        eps: added to the denominator for numerical stability.
        initial_scale: the initial value of the means of squares.
        eps_in_sqrt: whether to add ``eps`` under the square root.
        centered: whether to divide by the square root of the variance.
        momentum: the decay rate of a trace of the updates. None for no trace.
        nesterov: whether to use Nesterov momentum.
        bias_correction: whether to correct the running means for their initial value.
        **options: see ApplyOptions.

    Source: Tieleman & Hinton 2012, lecture 6.5; Graves 2013, arXiv:1308.0850; ``optax.rmsprop``.
    """
    return Optimizer(
        "rmsprop",
        RMSpropRule(decay, eps, initial_scale, eps_in_sqrt, centered, momentum, nesterov, bias_correction),
        learning_rate,
        options,
    )
