"""Adasum adds orthogonal gradients and averages parallel ones.

Source: Maleki et al., "Scaling Distributed Training with Adaptive Summation", MLSys 2021. Two
gradients become ``(1 - a.b / 2|a|^2) a + (1 - a.b / 2|b|^2) b``: their sum if they are orthogonal,
their mean if they are parallel. More than two are combined pair by pair in a tree.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from distopt.aggregators.base import Aggregator
from distopt.collectives import tree_pairs
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import Tensor, as_array
from distopt.core.variable import Variable
from distopt.distribute import ReplicaContext, require_replica_context
from distopt.typing import Array

__all__ = ["Adasum"]


class Adasum(Aggregator):
    """Adds gradients that are orthogonal and averages those that are parallel.

    Two gradients ``a`` and ``b`` of a variable become
    ``(1 - a.b / 2|a|^2) a + (1 - a.b / 2|b|^2) b``. More than two are combined pair by pair, in a binary
    tree over the replica numbers.

    Source: Maleki et al., "Scaling Distributed Training with Adaptive Summation", MLSys 2021.
    """

    def __call__(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> list[tuple[Any, Variable]]:
        """See Aggregator."""
        context = require_replica_context("an aggregator")
        return [(_combined(context, gradient, v), v) for gradient, v in grads_and_vars]


def _combined(context: ReplicaContext, gradient: Any, variable: Variable) -> Any:
    if gradient is None or context.num_replicas_in_sync == 1:
        return gradient
    sparse = isinstance(gradient, IndexedSlices)
    own = gradient.to_dense(variable.shape) if sparse else as_array(gradient)
    rows = [as_array(row) for row in context.all_gather(own[np.newaxis], axis=0)]
    for i, j in tree_pairs(len(rows)):
        rows[i] = _pair(rows[i], rows[j])
    if not sparse:
        return Tensor.from_numpy(rows[0])
    indices = np.unique(as_array(context.all_gather(as_array(gradient.indices), axis=0)))
    return IndexedSlices(rows[0][indices], indices, variable.shape)


def _pair(a: Array, b: Array) -> Array:
    # NumPy's own sums: those of BLAS may depend on the number of threads, and replicas must not part.
    wide = np.result_type(a.dtype, np.float64)
    x, y = a.astype(wide), b.astype(wide)
    dot, xx, yy = np.sum(x * y.conj()).real, np.sum(x * x.conj()).real, np.sum(y * y.conj()).real
    with_a = 1.0 - dot / (2.0 * xx) if xx > 0 else 1.0
    with_b = 1.0 - dot / (2.0 * yy) if yy > 0 else 1.0
    return np.asarray(with_a * x + with_b * y).astype(a.dtype)
