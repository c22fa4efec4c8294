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
        learning_rate: a number, or a function of the number of steps made, as optax's schedules are.
        decay: decay of the means.
        eps: keeps the divisor above zero.
        initial_scale: what the means of squares begin with.
        eps_in_sqrt: whether eps is added before the root is taken.
        centered: whether the square of the mean is taken from the mean of the square.
        momentum: decay of the trace of updates; None: there is no trace.
        nesterov: whether to use Nesterov's momentum.
        bias_correction: whether means are corrected for having begun with zero.
        **options: see ApplyOptions.

    Source: Tieleman & Hinton 2012, lecture 6.5; Graves 2013, arXiv:1308.0850; ``optax.rmsprop``.
    """
    return Optimizer(
        "rmsprop",
        RMSpropRule(decay, eps, initial_scale, eps_in_sqrt, centered, momentum, nesterov, bias_correction),
        learning_rate,
        options,
    )
