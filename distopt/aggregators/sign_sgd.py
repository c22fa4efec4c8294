"""SignSGD: the sum of each node votes for a direction, element by element.

Source: Bernstein et al., "signSGD: Compressed Optimisation for Non-Convex Problems", ICML 2018, algorithm 3
(majority vote), and algorithm 2 (Signum) with momentum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from distopt.aggregators.base import Aggregator
from distopt.aggregators.residuals import Residuals
from distopt.aggregators.sum import Sum
from distopt.core.checks import shown
from distopt.core.dtypes import is_narrow, kind_of
from distopt.core.indexed_slices import IndexedSlices, sum_duplicates
from distopt.core.split import share
from distopt.core.tensor import Tensor, as_array
from distopt.core.variable import Variable
from distopt.distribute import ReplicaContext, require_replica_context
from distopt.typing import Array

__all__ = ["SignSGD"]


class SignSGD(Aggregator):
    """The majority vote over the signs of the nodes' sums: 1, -1, or 0 if the votes are even.

    A node whose sum is 0 has no vote. On a single node the result is the sign of the sum. The magnitude of
    the gradients is lost, so each element moves by the learning rate. Use a learning rate near that of Adam,
    which is much smaller than that of SGD. An element is NaN if the sum of any node is. For rows of
    :class:`~distopt.IndexedSlices` the result is the sign of the sum over all replicas.

    Each node sends two bits per element: whether it votes, and for which sign.

    With momentum, a node votes with the moving average of its sums,
    ``m = momentum * m + (1 - momentum) * g`` (Signum), so noise cancels out before the sign is taken. Each
    replica keeps the average of its own gradients of dense float32 and float64 variables. The optimizer
    should then have no momentum.

    Args:
        momentum: at least 0 and below 1.

    Raises:
        ValueError: ``momentum`` is out of range.

    Source: Bernstein et al., "signSGD: Compressed Optimisation for Non-Convex Problems", ICML 2018.
    """

    def __init__(self, momentum: float = 0.0) -> None:
        if not isinstance(momentum, (int, float)) or isinstance(momentum, bool) or not 0 <= momentum < 1:
            raise ValueError(f"SignSGD: momentum must be at least 0 and below 1; got {shown(momentum)}")
        self.momentum = float(momentum)
        self._averages = Residuals("momentum")

    def get_config(self) -> dict[str, Any]:
        """Returns the momentum, unless it is 0."""
        return {"momentum": self.momentum} if self.momentum else {}

    def __str__(self) -> str:
        of = (
            f"averages (momentum {self.momentum:.3g}) of the nodes' sums"
            if self.momentum
            else "the nodes' sums"
        )
        return f"majority of the signs of {of}"

    def build(self, variables: Sequence[Variable]) -> None:
        """See Aggregator."""
        for v in variables if self.momentum else ():
            if v.dtype in (np.float32, np.float64):
                self._averages.add(v)

    @property
    def weights(self) -> list[Variable]:
        """The moving averages of each replica's gradients."""
        return self._averages.weights

    def finish_step(self) -> None:
        """See Aggregator."""
        for variable, average in _pending(require_replica_context("an aggregator")).pop(self, {}).items():
            own = self._averages.own(variable)
            np.copyto(own, average, where=np.isfinite(average))  # as before where a gradient is not finite
            self._averages.written(variable)

    def __call__(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> list[tuple[Any, Variable]]:
        """See Aggregator.

        Raises:
            TypeError: a gradient is complex.
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
            arrays = self._averaged(context, [(as_array(results[i]), pairs[i][1]) for i in dense])
            for i, signs in zip(dense, _majority(context, arrays), strict=True):
                results[i] = Tensor.from_numpy(signs)
        return [(result, v) for result, (_, v) in zip(results, pairs, strict=True)]

    def _averaged(self, context: ReplicaContext, pairs: list[tuple[Array, Variable]]) -> list[Array]:
        """This replica's moving averages after the step, by the first gradient of each variable."""
        found: dict[Variable, Array] = {}
        arrays = []
        for gradient, v in pairs:
            if v in self._averages and v not in found:
                own, kind = self._averages.own(v), v.dtype.type
                found[v] = kind(self.momentum) * own + kind(1 - self.momentum) * gradient
                arrays.append(found[v])
            else:
                arrays.append(gradient)
        _pending(context)[self] = found
        return arrays


def _pending(context: ReplicaContext) -> WeakKeyDictionary[SignSGD, dict[Variable, Array]]:
    """What calls have left for the end of a step; each replica has its own."""
    pending: WeakKeyDictionary[SignSGD, dict[Variable, Array]] = context.attached.setdefault(
        SignSGD, WeakKeyDictionary()
    )
    return pending


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
    """Where a sum is above 0, or below 0; both are set where it is NaN."""
    flat = total.reshape(-1)
    return np.packbits(~(flat <= 0) if sign > 0 else ~(flat >= 0))


def _joined(bits: Iterable[Array]) -> Array:
    return np.concatenate([np.empty(0, np.uint8), *bits])


def _vote(context: ReplicaContext, planes: Array) -> Array:
    """The majority of the nodes' ``[2, bytes]``. Each node counts a part and sends the result to all."""
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
