"""LocalSGD: nodes train separately and average their parameters from time to time."""

from __future__ import annotations

from distopt.core.tensor import as_array
from distopt.distribute import ReplicaContext
from distopt.engine.shared_parameters import SharedParameters
from distopt.torch.local_rounds import LocalRoundsOptimizer
from distopt.torch.optimizer import Optimizer
from distopt.torch.parameter import Parameter
from distopt.typing import Array

__all__ = ["LocalSGD"]


class LocalSGD(LocalRoundsOptimizer):
    """Local SGD: makes ``every`` steps on each node alone, then averages the parameters over the nodes.

    The replicas of a node make each step together, as with ``inner`` alone. Each node keeps its own state of
    ``inner``, such as momentum. On one node the result is that of ``inner``. Running statistics of batch
    norms are averaged over the node in each step, and over all replicas in an exchange.

    Args:
        inner: SGD or another optimizer of this package that takes the mean. Do not use it directly
            afterwards.
        every: the number of steps between exchanges.

    Raises:
        TypeError: ``inner`` is not an optimizer of this package.
        ValueError: ``inner`` does not take the mean, or ``every`` is below 1.

    Source: Stich 2018, "Local SGD Converges Fast and Communicates Little", arXiv:1805.09767.
    """

    def __init__(self, inner: Optimizer, every: int) -> None:
        super().__init__(inner, every)

    def _exchange(
        self, context: ReplicaContext, parameters: list[Parameter], parts: SharedParameters
    ) -> list[Array]:
        if context.nodes.size == 1:
            return []
        own = parts.own_parts([parameter.variable for parameter in parameters])
        return [as_array(mean) for mean in context.nodes.all_reduce("mean", own)]

    def _exchanged(self) -> str:
        return "the mean of the parameters over nodes"
