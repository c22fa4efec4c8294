"""Sums and means whose float32 gradients can be sent between nodes in fewer bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from distopt.aggregators.base import Aggregator
from distopt.collectives import EXACT, as_wire
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.variable import Variable
from distopt.distribute import require_replica_context

__all__ = ["WireAggregator"]


class WireAggregator(Aggregator):
    """The base of sums and means over replicas.

    A node computes its sum exactly. The sum is rounded once to the wire format, and the total over all nodes
    is rounded once. On a single node nothing is rounded. Sparse gradients and other dtypes are sent
    unchanged. Replicas that do not share memory count as separate nodes.

    Args:
        wire: the format in which nodes exchange float32 gradients. ``"float32"`` changes nothing. ``"bf16"``
            rounds to bfloat16. ``"fp16"`` rounds to half precision, scaled by a power of two for each 4,096
            elements. ``"int8"`` rounds to one of 255 levels, with a scale for each 512 elements. It rounds
            up or down at random, so that the expected value is exact.

    Raises:
        ValueError: ``wire`` is unknown.
    """

    #: Also of classes whose constructors do not call this one.
    _wire = EXACT

    def __init__(self, wire: str = EXACT) -> None:
        self._wire = as_wire(wire)

    @property
    def wire(self) -> str:
        """The format in which nodes exchange float32 gradients."""
        return self._wire

    def get_config(self) -> dict[str, Any]:
        """Returns the format, unless it is the default."""
        return {} if self._wire == EXACT else {"wire": self._wire}

    def _reduced(self, op: str, grads_and_vars: Iterable[tuple[Any, Variable]]) -> list[tuple[Any, Variable]]:
        """The pairs with every gradient reduced over all replicas. Gradients that are None stay None."""
        pairs = list(grads_and_vars)
        if pairs and all(gradient is None for gradient, _ in pairs):
            raise ValueError(f"No gradients provided for any variable: {[v.name for _, v in pairs]}")
        context, result = require_replica_context("an aggregator"), [None] * len(pairs)
        for wire in dict.fromkeys((EXACT, self._wire)):
            chosen = [i for i, (g, v) in enumerate(pairs) if g is not None and self._wire_of(g, v) == wire]
            if chosen or wire == self._wire:
                totals = context.all_reduce(op, [pairs[i][0] for i in chosen], wire=wire)
                for i, total in zip(chosen, totals, strict=True):
                    result[i] = total
        return [(total, variable) for total, (_, variable) in zip(result, pairs, strict=True)]

    def _wire_of(self, gradient: Any, variable: Variable) -> str:
        """The format for one gradient. Narrow dtypes stay exact; their means are computed in float32."""
        rounded = variable.dtype == np.float32 and not isinstance(gradient, IndexedSlices)
        return self._wire if rounded else EXACT
