"""LocalSGD: nodes train separately and average their weights from time to time."""

from __future__ import annotations

from collections.abc import Sequence

from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.distribute import ReplicaContext
from distopt.engine.shared_parameters import SharedParameters
from distopt.optimizers.local_rounds import LocalRounds
from distopt.optimizers.optimizer import Optimizer
from distopt.typing import Array

__all__ = ["LocalSGD"]


class LocalSGD(LocalRounds):
    """Makes ``every`` steps on each node separately, then averages the weights over the nodes.

    The replicas of a node make each step together, as with ``inner`` alone. Between two exchanges, nodes send
    each other nothing. On a single node it is the same as ``inner``. All other state of ``inner``, such as
    momentum, belongs to each node.

    Args:
        inner: SGD or any other optimizer, with ``gradient_aggregator="mean"``.
        every: the number of steps between two exchanges; 1 exchanges after each step.
        name: its name.

    Raises:
        TypeError: ``inner`` is not an optimizer, or wraps another one.
        ValueError: ``inner`` does not use the mean, or ``every`` is below 1.

    Source: Stich 2018, "Local SGD Converges Fast and Communicates Little", arXiv:1805.09767.
    """

    def __init__(self, inner: Optimizer, every: int, name: str | None = "LocalSGD") -> None:
        super().__init__(inner, every, name)

    def _exchange(
        self, context: ReplicaContext, variables: Sequence[Variable], parts: SharedParameters
    ) -> list[Array]:
        if context.nodes.size == 1:
            return []
        return [as_array(mean) for mean in context.nodes.all_reduce("mean", parts.own_parts(variables))]

    def _exchanged(self) -> str:
        return "the mean of the weights over nodes"
