"""DiLoCo: nodes train on their own, and an outer optimizer follows the mean of where they have gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from distopt.core.checks import shown
from distopt.distribute import ReplicaContext
from distopt.engine.shared_parameters import SharedParameters
from distopt.torch.local_rounds import LocalRoundsOptimizer
from distopt.torch.optimizer import Optimizer
from distopt.torch.parameter import Parameter
from distopt.torch.sgd import SGD
from distopt.typing import Array

__all__ = ["DiLoCo"]

#: Makes the outer optimizer of the parameters after the last exchange.
MakeOuter: TypeAlias = Callable[[list[torch.nn.Parameter]], Optimizer]


def nesterov(anchors: list[torch.nn.Parameter]) -> Optimizer:
    """The outer optimizer of the paper."""
    return SGD(anchors, lr=0.7, momentum=0.9, nesterov=True)


class DiLoCo(LocalRoundsOptimizer):
    """Makes ``every`` steps on each node alone; then an outer optimizer makes one with what they did.

    The outer gradient is the parameters after the last exchange minus the parameters now, averaged over the
    nodes. The outer optimizer applies it to the parameters after the last exchange, and all nodes go on from
    the result; also on one node. The state of ``inner`` stays each node's own; that of the outer one is the
    same everywhere.

    Args:
        inner: makes the steps of a node; AdamW in the paper. An optimizer of this package, which takes the
            mean. It is not to be used on its own from then on.
        outer: makes an optimizer of this package, which takes a mean, of a list of parameters. By default
            ``SGD(lr=0.7, momentum=0.9, nesterov=True)``, as in the paper.
        every: the number of steps between two exchanges.

    Attributes:
        outer: the outer optimizer.

    Raises:
        TypeError: ``inner`` is no optimizer of this package, or ``outer`` makes none.
        ValueError: ``inner`` does not take the mean, or ``every`` is below 1.

    Source: Douillard et al. 2023, "DiLoCo: Distributed Low-Communication Training of Language Models",
    arXiv:2311.08105.
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
        """See ``torch.optim.Optimizer``; all replicas add it together, and get replica 0's values."""
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
        """See the base class; the parameters after the last exchange are in it."""
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
        return f"parameters before minus parameters now, by {type(self.outer).__name__}"


def _anchor(parameter: Parameter) -> torch.nn.Parameter:
    return torch.nn.Parameter(parameter.tensor.detach().clone())


def _made(outer: Any) -> Optimizer:
    if not isinstance(outer, Optimizer):
        raise TypeError(f"DiLoCo: outer must make an optimizer of distopt.torch; it made {shown(outer)}")
    return outer
