"""TopK: nodes exchange the largest elements of each gradient.

Source: Stich et al., "Sparsified SGD with Memory", NeurIPS 2018; Aji & Heafield, "Sparse Communication for
Distributed Gradient Descent", EMNLP 2017.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from distopt.aggregators.node_compression import Contribution, NodeCompression, NodeExchange
from distopt.aggregators.packing import Spec, packed, size_of, unpacked
from distopt.aggregators.sparse_results import SparseResults
from distopt.collectives import reduce_rows
from distopt.core.checks import shown
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.typing import Array

__all__ = ["TopK"]

#: Variables with fewer elements are exchanged exactly.
_LEAST = 1024
_INDEX = np.dtype(np.int32)


class TopK(NodeCompression):
    """The mean over replicas, of which nodes exchange the largest elements, with error feedback.

    Each node adds its residual to its sum and sends the ``ceil(fraction * n)`` elements of each variable with
    the largest absolute values. If several are equal, the first ones are sent. The rest is the new residual.
    Elements that several nodes send are summed.

    Some gradients are exchanged exactly: variables with fewer than 1,024 elements, variables of dtypes other
    than float32 and float64, and rows of :class:`~distopt.IndexedSlices`. On a single node the mean is exact.

    Args:
        fraction: the fraction of each variable that is sent, above 0 and at most 1. Each element is sent
            with its index, so a fraction of a half or more saves nothing.

    Raises:
        ValueError: ``fraction`` is out of range.

    Source: Stich et al., "Sparsified SGD with Memory", NeurIPS 2018; Aji & Heafield, "Sparse Communication
    for Distributed Gradient Descent", EMNLP 2017.
    """

    def __init__(self, fraction: float = 0.01) -> None:
        super().__init__()
        if not isinstance(fraction, (int, float)) or isinstance(fraction, bool) or not 0 < fraction <= 1:
            raise ValueError(f"TopK: fraction must be above 0 and at most 1; got {shown(fraction)}")
        self.fraction = float(fraction)
        self._results = SparseResults()

    def get_config(self) -> dict[str, Any]:
        """See Aggregator."""
        return {"fraction": self.fraction}

    def __str__(self) -> str:
        return f"mean (between nodes the largest {self.fraction:.3g} of each variable, the rest waits)"

    def _compresses(self, variable: Variable) -> bool:
        return _LEAST <= variable.size <= np.iinfo(_INDEX).max

    def _count(self, variable: Variable) -> int:
        return math.ceil(self.fraction * variable.size)

    def _specs(self, variables: list[Variable]) -> list[Spec]:
        """The indices of the elements of the variables, then their values."""
        counts = [(self._count(v),) for v in variables]
        values = [(count, v.dtype) for count, v in zip(counts, variables, strict=True)]
        return [*((count, _INDEX) for count in counts), *values]

    def _exchange(self, exchange: NodeExchange) -> tuple[dict[int, Array], list[list[Array]], Any]:
        from distopt.engine.largest import largest  # compiled code, which takes time to load

        context = exchange.context
        found = [largest(c.gradient, c.rest, c.scale, self._count(c.variable)) for c in exchange.own]
        sent = packed([*(where for where, _ in found), *(values for _, values in found), *exchange.exact])
        nodes = as_array(context.nodes.all_gather(sent[np.newaxis], axis=0))
        whole = as_array(context.node.all_gather(nodes.reshape(-1), axis=0))
        totals: dict[int, Array] = {}
        parts, start = [], 0
        for variables, exact in zip(exchange.dealt, exchange.parts, strict=True):
            specs = [*self._specs(variables), *exact]
            length, rows = size_of(specs), []
            for _ in range(context.nodes.size):
                rows.append(unpacked(whole[start : start + length], specs))
                start += length
            for k, v in enumerate(variables):
                chosen = [(row[k], row[len(variables) + k]) for row in rows]
                totals[id(v)] = self._results.make(v.size, v.dtype, chosen)
            columns = zip(*(row[2 * len(variables) :] for row in rows), strict=True)
            parts.append([_sum(column) for column in columns])
        left = {id(c.variable): where for c, (where, _) in zip(exchange.own, found, strict=True)}
        return totals, parts, left

    def _keep(self, contribution: Contribution, rest: Array, left: Any) -> None:
        from distopt.engine.largest import keep_others

        keep_others(contribution.gradient, rest, contribution.scale, left[id(contribution.variable)])


def _sum(rows: tuple[Array, ...]) -> Array:
    out = np.empty_like(rows[0])
    reduce_rows(rows, out)
    return out
