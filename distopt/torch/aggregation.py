"""Aggregates gradients without a step, and handles the scaling of ``torch.amp.GradScaler``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from distopt.aggregators import Aggregator, label
from distopt.core.variable import Variable
from distopt.distribute import require_replica_context
from distopt.engine.step import StepEngine
from distopt.optimizers.pairs import aggregated, batch_of

__all__ = ["aggregate_pairs", "any_skips", "unscale"]


def aggregate_pairs(
    call: str, pairs: Sequence[tuple[Any, Variable]], aggregator: Callable[[Any], Any], made: int
) -> dict[Variable, Any]:
    """Returns the aggregated gradients by variable; collective.

    Args:
        call: the caller, for messages. Replicas compare it.
        pairs: (gradient, variable) of this replica, each variable once.
        aggregator: called with the pairs; returns pairs with the gradients combined over replicas.
        made: the number of steps made so far, the same on all replicas.
    """
    context = require_replica_context(call)
    context.steps_made = made
    engine = StepEngine.of(context)
    if isinstance(aggregator, Aggregator):
        aggregator.build([variable for _, variable in pairs])
    received = engine.coordinator.unified_pairs(call, batch_of(pairs))
    with engine.coordinator.error_barrier(call):
        result = aggregated(tuple(received), aggregator(received), label(aggregator))
    if isinstance(aggregator, Aggregator):
        aggregator.finish_step()
    return {variable: gradient for gradient, variable in result}


def any_skips(engine: StepEngine, name: str, found_inf: torch.Tensor) -> bool:
    """Whether the ``GradScaler`` of any replica has found an infinity or NaN in its gradients; collective."""
    return any(engine.coordinator.check(f"{name} under a GradScaler", [], int(found_inf.item() > 0)))


def unscale(gradients: Sequence[torch.Tensor], scale: torch.Tensor) -> None:
    """Divides gradients by the factor of a ``GradScaler``, in place, as its ``unscale_`` does."""
    factor = scale.double().reciprocal().float().item()
    for gradient in gradients:
        gradient.mul_(factor)
