"""DiLoCo: nodes train separately, and an outer optimizer follows their mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from distopt import distribute
from distopt.aggregators import Mean, Sum
from distopt.core.checks import shown
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.distribute import ReplicaContext
from distopt.engine.shared_parameters import SharedParameters
from distopt.optimizers.describe import stages_of
from distopt.optimizers.local_rounds import LocalRounds, part_config
from distopt.optimizers.optimizer import Optimizer
from distopt.optimizers.sgd import SGD
from distopt.optimizers.state import make_weights
from distopt.typing import Array

__all__ = ["DiLoCo"]

#: The slot of the weights after the last exchange.
_ANCHOR = "anchor"


class DiLoCo(LocalRounds):
    """Makes ``every`` steps on each node separately; then ``outer`` makes one step with their mean.

    The outer gradient is the weights after the last exchange minus the current weights, averaged over the
    nodes. ``outer`` applies it to the weights after the last exchange, and all nodes continue from there.
    It does the same on a single node. All other state of ``inner`` belongs to each node. The state of
    ``outer`` is the same everywhere.

    Args:
        inner: makes the steps of a node; AdamW in the paper. It needs ``gradient_aggregator="mean"``.
        outer: makes one step per round. A sum over replicas is replaced by the mean; any other aggregator is
            kept. The default is ``SGD(0.7, momentum=0.9, nesterov=True)``, as in the paper, with
            ``Mean(wire="bf16")``: nodes exchange float32 differences as bfloat16.
        every: the number of steps between two exchanges.
        name: its name.

    Raises:
        TypeError: ``inner`` or ``outer`` is not an optimizer, or wraps another one.
        ValueError: ``inner`` does not use the mean, ``outer`` keeps averages, both are the same object, or
            ``every`` is below 1.

    Source: Douillard et al. 2023, "DiLoCo: Distributed Low-Communication Training of Language Models",
    arXiv:2311.08105. The shorter differences: Douillard et al. 2025, "Streaming DiLoCo with Overlapping
    Communication", arXiv:2501.18512, which loses nothing with 4 bits.
    """

    def __init__(
        self, inner: Optimizer, outer: Optimizer | None = None, every: int = 20, name: str | None = "DiLoCo"
    ) -> None:
        super().__init__(inner, every, name)
        self.outer = _checked(inner, _nesterov() if outer is None else outer)

    def _exchange(
        self, context: ReplicaContext, variables: Sequence[Variable], parts: SharedParameters
    ) -> list[Array]:
        anchors = [self.get_slot(variable, _ANCHOR) for variable in variables]
        gradients = [_difference(a, v) for a, v in zip(anchors, variables, strict=True)]
        self.outer.apply_gradients(list(zip(gradients, anchors, strict=True)))
        return parts.own_parts(anchors)

    # -- the state
    @property
    def weights(self) -> list[Variable]:
        """The inner optimizer's weights, including those after the last exchange, then the outer one's."""
        return [*super().weights, *self.outer.weights]

    def _create_all_weights(self, var_list: list[Variable]) -> None:
        super()._create_all_weights(var_list)
        for variable in self._slots.lacking(var_list, (_ANCHOR,)):
            self.add_slot(variable, _ANCHOR, variable.numpy())
        make_weights(self.outer, [self.get_slot(variable, _ANCHOR) for variable in var_list])

    def _slot_owners(self) -> Iterator[tuple[Variable, str, Variable]]:
        owners = {}
        for variable, name, slot in self._slots.owners():
            if name == _ANCHOR:
                owners[slot] = variable
            yield variable, name, slot
        for anchor, name, slot in self.outer._slots.owners():
            yield owners[anchor], f"outer/{name}", slot

    def _hyper_variables(self) -> dict[str, Variable]:
        outer = self.outer._hypers.variables()
        return super()._hyper_variables() | {f"outer/{name}": value for name, value in outer.items()}

    # -- description and configs
    def _exchanged(self) -> str:
        replicas = distribute.get_strategy().num_replicas_in_sync
        return f"weights before minus weights now -> {stages_of(self.outer, replicas)}"

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor with their current values."""
        return {**super().get_config(), "outer": part_config(self.outer)}


def _nesterov() -> SGD:
    return SGD(0.7, momentum=0.9, nesterov=True, gradient_aggregator=Mean(wire="bf16"))


def _checked(inner: Optimizer, outer: Any) -> Optimizer:
    if not isinstance(outer, Optimizer) or isinstance(outer, LocalRounds):
        raise TypeError(f"DiLoCo: outer must be an optimizer, such as SGD; got {shown(outer)}")
    if outer is inner:
        raise ValueError("DiLoCo: inner and outer must be two optimizers, each with its own state")
    if outer.use_ema:
        raise ValueError("DiLoCo: outer must not keep averages: create it without use_ema")
    if isinstance(outer.gradient_aggregator, Sum):
        outer.gradient_aggregator = Mean()
    return outer


def _difference(anchor: Variable, variable: Variable) -> Array:
    return np.subtract(as_array(anchor), as_array(variable))
