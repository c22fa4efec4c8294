"""SignSGD: each node's sum votes for a direction, element by element.

Source: Bernstein et al., "signSGD: Compressed Optimisation for Non-Convex Problems", ICML 2018, algorithm 3
(majority vote).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from distopt.aggregators.base import Aggregator
from distopt.aggregators.sum import Sum
from distopt.core.dtypes import is_narrow, kind_of
from distopt.core.indexed_slices import IndexedSlices, sum_duplicates
from distopt.core.split import share
from distopt.core.tensor import Tensor, as_array
from distopt.core.variable import Variable
from distopt.distribute import ReplicaContext, require_replica_context
from distopt.typing import Array

__all__ = ["SignSGD"]


class SignSGD(Aggregator):
    """The majority of the signs of the nodes' sums: 1, -1, or 0 where as many nodes are for either.

    A node whose sum is 0 has no vote. On one node it is the sign of the sum. The magnitude of gradients is
    lost, so a step is as long as the learning rate, for each element: it has to be much smaller than that of
    SGD, about that of Adam. An element is NaN where the sum of any node is. Of rows of
    :class:`~distopt.IndexedSlices` it is the sign of the sum over all replicas.

    It sends two bits an element: there is a vote, and which.
    """

    def __str__(self) -> str:
        return "majority of the signs of the nodes' sums"

    def __call__(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> list[tuple[Any, Variable]]:
        """See Aggregator.

        Raises:
            TypeError: a complex gradient.
        """
        context, pairs = require_replica_context("an aggregator"), list(grads_and_vars)
        results = [g for g, _ in pairs]
        dense = [i for i, g in enumerate(results) if g is not None and not isinstance(g, IndexedSlices)]
        rows = [i for i, g in enumerate(results) if isinstance(g, IndexedSlices)]
        for i in (*dense, *rows):
            if kind_of(pairs[i][1].dtype) == "c":
                raise TypeError(f"SignSGD: variable {pairs[i][1].name!r} is complex, which has no sign")
        if rows:
            for i, (total, _) in zip(rows, Sum()([pairs[i] for i in rows]), strict=True):
                results[i] = _signs_of_rows(total)
        if dense:
            arrays = [as_array(results[i]) for i in dense]
            for i, signs in zip(dense, _majority(context, arrays), strict=True):
                results[i] = Tensor.from_numpy(signs)
        return [(result, v) for result, (_, v) in zip(results, pairs, strict=True)]


def _signs_of_rows(total: IndexedSlices) -> IndexedSlices:
    values, indices = sum_duplicates(total.values, total.indices)
    return IndexedSlices(np.sign(values), indices, total.dense_shape)


def _majority(context: ReplicaContext, arrays: Sequence[Array]) -> list[Array]:
    if context.node.size > 1:
        wide = [a.astype(np.float32) if is_narrow(a.dtype) else a for a in arrays]
        sums = [as_array(total) for total in context.node.all_reduce("sum", wide)]
    else:
        sums = list(arrays)
    if context.nodes.size == 1:
        return [np.sign(total).astype(a.dtype) for total, a in zip(sums, arrays, strict=True)]
    positive, negative = (_joined(_bits(total, sign) for total in sums) for sign in (1, -1))
    own = slice(*share(len(positive), context.node.rank, context.node.size))
    parts = _vote(context, np.stack([positive[own], negative[own]]))
    planes = as_array(context.node.all_gather(parts, axis=1))
    signs = []
    start = 0
    for a in arrays:
        stop = start + -(-a.size // 8)
        signs.append(_signs(planes[:, start:stop], a))
        start = stop
    return signs


def _bits(total: Array, sign: int) -> Array:
    """Where a sum is above 0, or below; both where it is NaN."""
    flat = total.reshape(-1)
    return np.packbits(~(flat <= 0) if sign > 0 else ~(flat >= 0))


def _joined(bits: Iterable[Array]) -> Array:
    return np.concatenate([np.empty(0, np.uint8), *bits])


def _vote(context: ReplicaContext, planes: Array) -> Array:
    """The majority of the nodes' ``[2, bytes]``; each node counts a part, and tells it to all."""
    nodes = context.nodes
    if nodes.size == 2:  # what each would count of the other's half is as long as the half itself
        rows = as_array(nodes.all_gather(planes[np.newaxis], axis=0))
        return _counted(rows)
    nodes.all_gather(np.array([planes.shape[1]]), axis=0)  # the header of the messages below
    bounds = [share(planes.shape[1], node, nodes.size) for node in range(nodes.size)]
    sent = [np.ascontiguousarray(planes[:, start:stop]).reshape(-1) for start, stop in bounds]
    rows = np.stack(context.world.cross.all_to_all(sent)).reshape(nodes.size, 2, -1)
    longest = max(stop - start for start, stop in bounds)
    mine = np.zeros((2, longest), np.uint8)
    counted = _counted(rows)
    mine[:, : counted.shape[1]] = counted
    everyone = context.world.cross.all_gather(mine)
    return np.concatenate(
        [part[:, : stop - start] for part, (start, stop) in zip(everyone, bounds, strict=True)], axis=1
    )


def _counted(rows: Array) -> Array:
    """The majority of ``[nodes, 2, bytes]``, in the same two planes."""
    unknown = np.bitwise_or.reduce(rows[:, 0] & rows[:, 1], axis=0)
    if len(rows) == 2:
        positive, negative = (rows[0, k] | rows[1, k] for k in (0, 1))
        return np.stack([positive & ~negative | unknown, negative & ~positive | unknown])
    votes = np.zeros(8 * rows.shape[2], np.int32)
    for row in rows:
        bits = np.unpackbits(row, axis=1).view(np.int8)
        votes += bits[0]
        votes -= bits[1]
    return np.stack([np.packbits(votes > 0) | unknown, np.packbits(votes < 0) | unknown])


def _signs(planes: Array, like: Array) -> Array:
    bits = np.unpackbits(planes, axis=1, count=like.size).view(np.int8)
    signs: Array = (bits[0] - bits[1]).astype(like.dtype)
    both = planes[0] & planes[1]
    if both.any():
        signs[np.unpackbits(both, count=like.size).view(bool)] = np.nan
    shaped: Array = signs.reshape(like.shape)
    return shaped
