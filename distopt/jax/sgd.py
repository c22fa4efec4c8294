"""SGD."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distopt.jax.optimizer import ApplyOptions, Optimizer
from distopt.jax.rates import check_none
from distopt.jax.rules.sgd import SGDRule

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["sgd"]


def sgd(
    learning_rate: Any,
    momentum: float | None = None,
    nesterov: bool = False,
    accumulator_dtype: Any = None,
    **options: Unpack[ApplyOptions],
) -> Optimizer:
    """``optax.sgd`` over all replicas.

    Args:
        learning_rate: a number, or a schedule: a function of the number of steps made, as in optax.
        momentum: the decay rate of a trace of the gradients. None for no trace.
        nesterov: whether to use Nesterov momentum.
        accumulator_dtype: must be None. The trace has the dtype of the parameter.
        **options: see ApplyOptions.

    Source: ``optax.sgd``.
    """
    check_none("accumulator_dtype", accumulator_dtype)
    return Optimizer("sgd", SGDRule(momentum, nesterov), learning_rate, options)
