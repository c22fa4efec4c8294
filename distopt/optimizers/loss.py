"""From a loss to gradients: the part of ``minimize`` before the step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from distopt.aggregators import Sum
from distopt.autodiff import GradientTape
from distopt.core import nest
from distopt.core.checks import shown
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.variable import Variable
from distopt.distribute import get_replica_context
from distopt.engine.error_barrier import ErrorBarrier
from distopt.optimizers.pairs import Pair

if TYPE_CHECKING:
    from distopt.optimizers.optimizer import Optimizer

__all__ = [
    "all_gradients",
    "check_dtypes",
    "compute_gradients",
    "gradients_to_apply",
    "loss_factor",
    "variables_in",
    "warn_of_means",
]


_log = logging.getLogger("distopt")


def compute_gradients(
    optimizer: Optimizer, loss: Any, var_list: Any, grad_loss: Any = None, tape: Any = None
) -> list[Pair]:
    """The pairs that ``Optimizer.minimize`` applies. It takes the same arguments and calls the hooks."""
    if not callable(loss) and tape is None:
        raise ValueError(
            f"`tape` is required when a value is passed as the loss; got loss={shown(loss)} and no tape. "
            "Pass tape=..., or a callable that computes the loss"
        )
    tape = GradientTape() if tape is None else tape
    if not isinstance(tape, GradientTape):
        raise TypeError(f"tape must be a distopt.GradientTape; got {shown(tape)}")
    with tape:
        if callable(loss):
            if not callable(var_list):
                tape.watch(variables_in(var_list))
            loss = loss()
        loss = optimizer._transform_loss(loss)
    variables = variables_in(var_list() if callable(var_list) else var_list)
    pairs = optimizer._get_gradients(tape, loss, variables, grad_loss)
    optimizer._assert_valid_dtypes([v for g, v in pairs if g is not None])
    return pairs


def gradients_to_apply(
    optimizer: Optimizer, loss: Any, var_list: Any, grad_loss: Any, tape: Any
) -> list[Pair]:
    """The pairs that ``Optimizer.minimize`` applies. An error in the loss of one replica stops all replicas.

    Raises:
        ReplicaFailed: the loss of another replica raised an exception.
    """
    with ErrorBarrier(get_replica_context(), optimizer._call()):
        return optimizer._compute_gradients(loss, var_list, grad_loss, tape)


def all_gradients(optimizer: Optimizer, loss: Any, params: Any) -> list[Any]:
    """The gradient of each variable. It takes the arguments of ``Optimizer.get_gradients``."""
    if not callable(loss):
        raise ValueError(
            "get_gradients() cannot follow a value back to variables: pass a callable that computes the "
            "loss, or use distopt.GradientTape"
        )
    pairs = optimizer._compute_gradients(loss, params)
    for gradient, variable in pairs:
        if gradient is None:
            raise ValueError(
                f"Variable {variable.name!r} has `None` for gradient: the loss does not depend on it"
            )
    return [gradient for gradient, _ in pairs]


def check_dtypes(variables: Sequence[Variable]) -> None:
    """Raises ValueError if a dtype cannot be trained."""
    for variable in variables:
        if variable.dtype.kind not in "fc":
            raise ValueError(
                f"Invalid type {variable.dtype} for {variable.name}, expected a floating-point dtype"
            )


def loss_factor(optimizer: Optimizer) -> float:
    """Returns the factor by which to multiply each replica's part of the loss of a global batch."""
    return optimizer._loss_factor()


def warn_of_means(optimizer: Optimizer, gradients: Sequence[Any]) -> None:
    """Warns, on replica 0, if gradients that are means over single replicas are summed."""
    context = get_replica_context()
    if context is None:
        return
    replicas, first = context.num_replicas_in_sync, context.replica_id_in_sync_group == 0
    summed = isinstance(optimizer.gradient_aggregator, Sum)
    if summed and replicas > 1 and first and any(map(_of_mean, gradients)):
        _log.warning(
            "optimizer %r sums gradients over %d replicas, and the loss looks like a mean over each "
            "replica's own examples: the step is %d times that of the mean over all. Use "
            "gradient_aggregator='mean' (or 'weighted_mean' for batches of unequal sizes), or divide the "
            "sum of the losses by the size of the batch on all replicas",
            optimizer._name,
            replicas,
            replicas,
        )


def _of_mean(gradient: Any) -> bool:
    tensor = gradient.values if isinstance(gradient, IndexedSlices) else gradient
    return getattr(tensor, "of_mean", False)


def variables_in(var_list: Any) -> list[Variable]:
    """The variables in nested lists, tuples and dicts (by sorted key).

    Raises:
        ValueError: they contain something else.
    """
    variables = nest.flatten(var_list)
    for item in variables:
        if not isinstance(item, Variable):
            raise ValueError(f"minimize() takes distopt.Variable objects in var_list; got {shown(item)}")
    return variables
