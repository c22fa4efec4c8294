"""From a loss to gradients: what an optimizer does before its step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from distopt.autodiff import GradientTape
from distopt.core import nest
from distopt.core.checks import shown
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.variable import Variable
from distopt.distribute import get_replica_context
from distopt.optimizers.pairs import Pair

__all__ = ["LossGradients", "variables_in"]


_log = logging.getLogger("distopt")


class LossGradients:
    """The part of an optimizer that computes gradients."""

    _name: str
    _looked_for_means = False

    def _compute_gradients(
        self, loss: Any, var_list: Any, grad_loss: Any = None, tape: Any = None
    ) -> list[Pair]:
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
            loss = self._transform_loss(loss)
        variables = variables_in(var_list() if callable(var_list) else var_list)
        pairs = self._get_gradients(tape, loss, variables, grad_loss)
        self._assert_valid_dtypes([v for g, v in pairs if g is not None])
        return pairs

    def _transform_loss(self, loss: Any) -> Any:
        """A hook: the loss to differentiate in place of ``loss``; called inside the tape."""
        return loss

    def _get_gradients(
        self, tape: Any, loss: Any, var_list: list[Variable], grad_loss: Any = None
    ) -> list[Pair]:
        """A hook: the pairs of gradients (None where there is none) and variables."""
        return list(zip(tape.gradient(loss, var_list, grad_loss), var_list, strict=True))

    def _assert_valid_dtypes(self, tensors: Sequence[Any]) -> None:
        """Raises ValueError for dtypes that are not trained."""
        for tensor in tensors:
            if tensor.dtype.kind not in "fc":
                raise ValueError(
                    f"Invalid type {tensor.dtype} for {tensor.name}, expected a floating-point dtype"
                )

    def _look_for_means(self, gradients: Sequence[Any], summed: bool) -> None:
        """At the first aggregated step: says so if gradients of each replica's own mean are summed."""
        context = get_replica_context()
        if context is None:
            return
        self._looked_for_means = True
        replicas, first = context.num_replicas_in_sync, context.replica_id_in_sync_group == 0
        if summed and replicas > 1 and first and any(map(_of_mean, gradients)):
            _log.warning(
                "optimizer %r sums gradients over %d replicas, and the loss looks like a mean over each "
                "replica's own examples: the step is %d times that of the mean over all. Use "
                "gradient_aggregator='mean' (or 'weighted_mean' for batches of unequal sizes), or divide the "
                "sum of the losses by the size of the batch on all replicas",
                self._name,
                replicas,
                replicas,
            )

    def get_gradients(self, loss: Any, params: Any) -> list[Any]:
        """The gradients of ``loss`` with respect to ``params``.

        Args:
            loss: a callable without arguments. A value carries no graph here that could be followed.
            params: the variables.

        Raises:
            ValueError: ``loss`` is a value, or a variable has no gradient.
        """
        if not callable(loss):
            raise ValueError(
                "get_gradients() cannot follow a value back to variables: pass a callable that computes the "
                "loss, or use distopt.GradientTape"
            )
        pairs = self._compute_gradients(loss, params)
        for gradient, variable in pairs:
            if gradient is None:
                raise ValueError(
                    f"Variable {variable.name!r} has `None` for gradient: the loss does not depend on it"
                )
        return [gradient for gradient, _ in pairs]


def _of_mean(gradient: Any) -> bool:
    tensor = gradient.values if isinstance(gradient, IndexedSlices) else gradient
    return getattr(tensor, "of_mean", False)


def variables_in(var_list: Any) -> list[Variable]:
    """The variables in nested lists, tuples and dicts (by sorted key).

    Raises:
        ValueError: something else is among them.
    """
    variables = nest.flatten(var_list)
    for item in variables:
        if not isinstance(item, Variable):
            raise ValueError(f"minimize() takes distopt.Variable objects in var_list; got {shown(item)}")
    return variables
