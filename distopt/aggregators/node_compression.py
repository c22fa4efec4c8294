"""NodeCompression is the base of means that nodes exchange in compressed form."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from distopt.aggregators.base import Aggregator
from distopt.aggregators.mean import Mean
from distopt.aggregators.packing import Spec
from distopt.aggregators.residuals import Residuals
from distopt.core.dtypes import is_narrow, kind_of
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.split import share
from distopt.core.tensor import Tensor, as_array
from distopt.core.variable import Variable
from distopt.distribute import ReplicaContext, require_replica_context
from distopt.engine.owners import owners
from distopt.typing import Array

__all__ = ["Contribution", "NodeExchange", "NodeCompression"]

_Pairs = list[tuple[Any, Variable]]


@dataclass
class Contribution:
    """A node's contribution to the result of one variable: ``scale * gradient + rest``.

    Attributes:
        variable: the variable.
        gradient: the sum over the node's replicas, ``[n]``, contiguous; read-only.
        rest: the node's residual, ``[n]``; read-only.
        scale: turns a sum over all replicas into their mean.
    """

    variable: Variable
    gradient: Array
    rest: Array
    scale: float


@dataclass
class NodeExchange:
    """What the nodes exchange in one step; each replica has a part of it.

    Attributes:
        context: the replica.
        dealt: for each replica of the node, the variables whose contributions it compresses.
        own: the contributions of this replica.
        exact: this replica's parts of node sums that are sent uncompressed, 1-D, of different dtypes.
        parts: for each replica of the node, the specs of its exact parts.
    """

    context: ReplicaContext
    dealt: list[list[Variable]]
    own: list[Contribution]
    exact: list[Array]
    parts: list[list[Spec]]


@dataclass
class _PendingStep:
    """What a call leaves for the end of the step.

    Attributes:
        own: the contributions whose residuals this replica keeps.
        left: what the compression left out of them.
        others: variables whose residuals are zero here.
        step: the number of the step.
    """

    own: Sequence[Contribution] = ()
    left: Any = None
    others: list[Variable] = field(default_factory=list)
    step: int = 0


class NodeCompression(Aggregator):
    """The mean over all replicas, which nodes exchange in compressed form.

    The replicas of a node sum exactly. On a single node the whole mean is exact. The residual, which is what
    the compression leaves out, is added to the node's gradients in the next step. If a job continues on a
    single node, its first step applies all residuals. If a gradient is not finite, neither is the result, and
    the residuals do not change.
    """

    def __init__(self) -> None:
        self._residuals = Residuals()

    # -- for subclasses
    @abstractmethod
    def _compresses(self, variable: Variable) -> bool:
        """Whether a dense gradient of float32 or float64 is compressed, rather than sent as it is."""

    def _prepare(self, variable: Variable) -> None:
        """Makes state beside the residual of a variable that is compressed."""

    def _step(self) -> int:
        """The number of steps made, for aggregators that need it."""
        return 0

    def _is_exact(self, step: int) -> bool:
        """Whether a step is exact on several nodes too."""
        return False

    @abstractmethod
    def _exchange(self, exchange: NodeExchange) -> tuple[dict[int, Array], list[list[Array]], Any]:
        """Combines the contributions of the nodes; collective.

        Returns:
            for each compressed variable, by id, the sum of all nodes' contributions, ``[n]``; for each
            replica of the node, the totals of its exact parts; and what ``_keep`` and ``_finish`` need.
        """

    @abstractmethod
    def _keep(self, contribution: Contribution, rest: Array, left: Any) -> None:
        """Sets ``rest``, the residual of the contribution, to what was left out of it."""

    def _finish(self, left: Any, step: int) -> None:
        """Updates other state after a step; ``left`` is None after an exact one."""

    # -- Aggregator
    def build(self, variables: Sequence[Variable]) -> None:
        """See Aggregator."""
        for v in variables:
            if v not in self._residuals and v.dtype in (np.float32, np.float64) and self._compresses(v):
                self._prepare(v)
                self._residuals.add(v)

    @property
    def weights(self) -> list[Variable]:
        """The residuals: what each node has not sent yet, divided by the number of replicas."""
        return self._residuals.weights

    def __call__(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> _Pairs:
        """See Aggregator."""
        context, pairs = require_replica_context("an aggregator"), list(grads_and_vars)
        dense = [i for i, (g, _) in enumerate(pairs) if g is not None and not isinstance(g, IndexedSlices)]
        if context.nodes.size == 1 or self._is_exact(self._step()):
            return self._exactly(context, pairs, dense)
        results = dict(enumerate(pairs))
        rows = [i for i in results if isinstance(pairs[i][0], IndexedSlices)]
        if rows:
            results.update(zip(rows, Mean()([pairs[i] for i in rows]), strict=True))
        if dense:
            totals = self._compressed(context, [pairs[i] for i in dense])
            results.update(zip(dense, totals, strict=True))
        return [results[i] for i in range(len(pairs))]

    def finish_step(self) -> None:
        """See Aggregator."""
        context = require_replica_context("an aggregator")
        pending = _pending(context).pop(self, _PendingStep())
        for contribution in reversed(pending.own):  # the next step begins with the first, cached then
            own = self._residuals.own(contribution.variable).reshape(-1)
            if own is not contribution.rest and own.ctypes.data != contribution.rest.ctypes.data:
                np.copyto(own, contribution.rest)
            self._keep(contribution, own, pending.left)
            self._residuals.written(contribution.variable)
        for variable in pending.others:
            self._residuals.clear(variable)
        self._finish(pending.left, pending.step)
        self._residuals.settle(context)

    # -- the two ways
    def _exactly(self, context: ReplicaContext, pairs: _Pairs, dense: list[int]) -> _Pairs:
        """The mean, with all residuals applied."""
        result = Mean()(pairs)
        here = [result[i][1] for i in dense if result[i][1] in self._residuals]
        waiting = self._residuals.of_job(context, dict.fromkeys(here))
        _pending(context)[self] = _PendingStep(
            others=[v for v in dict.fromkeys(here) if id(v) in waiting], step=self._step()
        )
        for i in dense:
            total = waiting.pop(id(result[i][1]), None)
            if total is not None:
                result[i] = Tensor.from_numpy(as_array(result[i][0]) + total), result[i][1]
        return result

    def _compressed(self, context: ReplicaContext, pairs: _Pairs) -> _Pairs:
        """The mean of dense gradients over several nodes."""
        places: dict[Variable, int] = {}  # a variable's first gradient is compressed
        for i, (_, v) in enumerate(pairs):
            if v in self._residuals:
                places.setdefault(v, i)
        exact = sorted(set(range(len(pairs))) - set(places.values()))
        arrays = [_wide(as_array(pairs[i][0])) for i in (*places.values(), *exact)]
        if context.node.size > 1:
            arrays = [as_array(total) for total in context.node.all_reduce("sum", arrays)]
        sums = dict(zip(places, arrays, strict=False))
        flat = _by_dtype(arrays[len(places) :])
        exchange = self._dealt(context, sums, flat)
        found, parts, left = self._exchange(exchange)
        others = [v for v in places if all(v is not c.variable for c in exchange.own)]
        _pending(context)[self] = _PendingStep(exchange.own, left, others, self._step())
        wholes = [np.concatenate(rows) for rows in zip(*parts, strict=True)]
        totals = _split(wholes, arrays[len(places) :])
        count = context.num_replicas_in_sync
        values = dict(zip(exact, (total / total.dtype.type(count) for total in totals), strict=True))
        values.update({i: found[id(v)] for v, i in places.items()})
        return [(_result(values[i], v), v) for i, (_, v) in enumerate(pairs)]

    def _dealt(self, context: ReplicaContext, sums: dict[Variable, Array], flat: list[Array]) -> NodeExchange:
        """Distributes the work over the replicas of the node."""
        size, rank, variables = context.node.size, context.node.rank, list(sums)
        chosen = owners([v.size for v in variables], size)
        dealt: list[list[Variable]] = [[] for _ in range(size)]
        for v, owner in zip(variables, chosen, strict=True):
            dealt[owner].append(v)
        moved, scale = self._residuals.of_node(context, variables), 1.0 / context.num_replicas_in_sync
        own = []
        for v in dealt[rank]:
            rest = moved[id(v)] if id(v) in moved else self._residuals.own(v)
            own.append(Contribution(v, np.ascontiguousarray(sums[v]).reshape(-1), rest.reshape(-1), scale))
        cuts = [[share(array.size, r, size) for array in flat] for r in range(size)]
        parts: list[list[Spec]] = [
            [((stop - start,), array.dtype) for (start, stop), array in zip(of_one, flat, strict=True)]
            for of_one in cuts
        ]
        exact = [array[start:stop] for (start, stop), array in zip(cuts[rank], flat, strict=True)]
        return NodeExchange(context, dealt, own, exact, parts)


def _pending(context: ReplicaContext) -> WeakKeyDictionary[NodeCompression, _PendingStep]:
    """What calls have left for the end of the step; each replica has its own."""
    pending: WeakKeyDictionary[NodeCompression, _PendingStep] = context.attached.setdefault(
        NodeCompression, WeakKeyDictionary()
    )
    return pending


def _wide(array: Array) -> Array:
    """The array in a dtype that can hold sums."""
    return array.astype(np.float32) if is_narrow(array.dtype) else array


def _by_dtype(arrays: Sequence[Array]) -> list[Array]:
    """The arrays concatenated, 1-D, one result per dtype."""
    groups: dict[Any, list[Array]] = {}
    for array in arrays:
        groups.setdefault(array.dtype, []).append(array.reshape(-1))
    return [np.concatenate(group) for group in groups.values()]


def _split(wholes: Sequence[Array], like: Sequence[Array]) -> list[Array]:
    """Splits totals into arrays like those that :func:`_by_dtype` got."""
    place = {whole.dtype: 0 for whole in wholes}
    by_dtype = {whole.dtype: whole for whole in wholes}
    result = []
    for array in like:
        start = place[array.dtype]
        place[array.dtype] = start + array.size
        result.append(by_dtype[array.dtype][start : start + array.size].reshape(array.shape))
    return result


def _result(values: Array, variable: Variable) -> Tensor:
    dtype = variable.dtype if kind_of(variable.dtype) in "fc" else values.dtype
    return Tensor.from_numpy(np.asarray(values.reshape(variable.shape), dtype))
