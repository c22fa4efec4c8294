"""DiLoCo: nodes train separately, and an outer optimizer steps toward the mean of their parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from distopt.aggregators import Mean
from distopt.core.checks import shown
from distopt.distribute import ReplicaContext, get_strategy
from distopt.engine.shared_parameters import SharedParameters
from distopt.optimizers.describe import stages_of
from distopt.torch.local_rounds import LocalRoundsOptimizer
from distopt.torch.optimizer import Optimizer
from distopt.torch.parameter import Parameter
from distopt.torch.sgd import SGD
from distopt.typing import Array

__all__ = ["DiLoCo"]

#: Makes the outer optimizer of the parameters after the last exchange.
MakeOuter: TypeAlias = Callable[[list[torch.nn.Parameter]], Optimizer]


def nesterov(anchors: list[torch.nn.Parameter]) -> Optimizer:
    """The outer optimizer of the paper; differences are sent in half the bytes."""
    return SGD(anchors, lr=0.7, momentum=0.9, nesterov=True, aggregator=Mean(wire="bf16"))


class DiLoCo(LocalRoundsOptimizer):
    """DiLoCo: makes ``every`` steps on each node alone, then one step of an outer optimizer on all nodes.

    The outer gradient is the difference between the parameters after the last exchange and the parameters
    now, averaged over the nodes. The outer optimizer applies it to the parameters after the last exchange,
    and all nodes continue from the result. It does the same on one node. Each node keeps its own state of
    ``inner``; the state of the outer optimizer is the same everywhere.

    Args:
        inner: the optimizer that makes the steps of a node; AdamW in the paper. It must be an optimizer of
            this package that takes the mean. Do not use it directly afterwards.
        outer: a function that creates an optimizer of this package, which takes the mean, from a list of
            parameters. By default ``SGD(lr=0.7, momentum=0.9, nesterov=True)``, as in the paper, with
            ``Mean(wire="bf16")``: nodes exchange float32 differences as bfloat16.
        every: the number of steps between exchanges.

    Attributes:
        outer: the outer optimizer.

    Raises:
        TypeError: ``inner``, or the result of ``outer``, is not an optimizer of this package.
        ValueError: ``inner`` does not take the mean, or ``every`` is below 1.

    Source: Douillard et al. 2023, "DiLoCo: Distributed Low-Communication Training of Language Models",
    arXiv:2311.08105. The shorter differences: Douillard et al. 2025, "Streaming DiLoCo with Overlapping
    Communication", arXiv:2501.18512, which loses nothing with 4 bits.
    """

    def __init__(self, inner: Optimizer, outer: MakeOuter = nesterov, every: int = 20) -> None:
        if not callable(outer):
            raise TypeError(
                f"DiLoCo: outer must be a function that makes an optimizer of a list of parameters, such as "
                f"lambda params: SGD(params, lr=0.7); got {shown(outer)}"
            )
        super().__init__(inner, every)
        self._anchors = [_anchor(parameter) for parameter in inner._pipeline.parameters]
        self.outer = _made(outer(list(self._anchors)))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a parameter group, with the values of replica 0. Collective."""
        super().add_param_group(param_group)
        if self._made:
            new = [_anchor(p) for p in self.inner._pipeline.parameters[len(self._anchors) :]]
            self.outer.add_param_group({"params": new})
            self._anchors += new

    def _exchange(
        self, context: ReplicaContext, parameters: list[Parameter], parts: SharedParameters
    ) -> list[Array]:
        for anchor, parameter in zip(self._anchors, parameters, strict=True):
            anchor.grad = anchor.detach() - parameter.tensor.detach()
        self.outer.step()
        self.outer.zero_grad()
        return parts.own_parts([parameter.variable for parameter in self.outer._pipeline.parameters])

    def state_dict(self) -> dict[str, Any]:
        """The state of this node, with the parameters after the last exchange."""
        anchors = [anchor.detach().clone() for anchor in self._anchors]
        return {**super().state_dict(), "outer": self.outer.state_dict(), "anchors": anchors}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See the base class."""
        outer, anchors = state_dict["outer"], state_dict["anchors"]
        super().load_state_dict(state_dict)
        self.outer.load_state_dict(outer)
        for anchor, value in zip(self._anchors, anchors, strict=True):
            anchor.copy_(value)

    def _exchanged(self) -> str:
        replicas = get_strategy().num_replicas_in_sync
        return (
            f"parameters before minus parameters now -> {stages_of(self.outer._pipeline.updates, replicas)}"
        )


def _anchor(parameter: Parameter) -> torch.nn.Parameter:
    return torch.nn.Parameter(parameter.tensor.detach().clone())


def _made(outer: Any) -> Optimizer:
    if not isinstance(outer, Optimizer):
        raise TypeError(f"DiLoCo: outer must make an optimizer of distopt.torch; it made {shown(outer)}")
    return outer
