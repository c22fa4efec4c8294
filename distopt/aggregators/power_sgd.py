"""PowerSGD: nodes exchange low-rank factors.

Source: Vogels, Karimireddy, Jaggi, "PowerSGD: Practical Low-Rank Gradient Compression for Distributed
Optimization", NeurIPS 2019: algorithm 1, with the error feedback of algorithm 2 and warm start.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.aggregators.node_compression import Contribution, NodeCompression, NodeExchange
from distopt.aggregators.packing import Spec, packed, size_of, unpacked
from distopt.aggregators.result_memory import ResultMemory
from distopt.core.assignment import assign_alike
from distopt.core.checks import as_count, shown
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.typing import Array

__all__ = ["PowerSGD"]


class PowerSGD(NodeCompression):
    """The mean over replicas, which nodes exchange as a low-rank approximation with error feedback.

    The gradient of a variable is treated as a matrix whose shape is as close to a square as possible: its
    first axes are the rows, the others the columns. One step of power iteration on the nodes' sum, starting
    from the factor of the last step, gives the approximation. The rest is added to the next step.

    Some gradients are exchanged exactly: vectors, matrices that would become less than ``min_compression``
    times smaller, variables of dtypes other than float32 and float64, and rows of
    :class:`~distopt.IndexedSlices`. On a single node the mean is exact.

    Args:
        rank: the rank of the approximation, at least 1.
        start_after: the number of exact steps at the start, when gradients change fast.
        min_compression: see above; at least 1.

    Raises:
        ValueError: an argument is out of range.
        TypeError: ``rank`` or ``start_after`` is not an int.

    Source: Vogels, Karimireddy, Jaggi, "PowerSGD: Practical Low-Rank Gradient Compression for Distributed
    Optimization", NeurIPS 2019.
    """

    def __init__(self, rank: int = 4, start_after: int = 0, min_compression: float = 2.0) -> None:
        super().__init__()
        self.rank = as_count(rank, "PowerSGD: rank")
        self.start_after = as_count(start_after, "PowerSGD: start_after", least=0)
        number = isinstance(min_compression, (int, float)) and not isinstance(min_compression, bool)
        if not number or not min_compression >= 1:
            raise ValueError(f"PowerSGD: min_compression must be at least 1; got {shown(min_compression)}")
        self.min_compression = float(min_compression)
        #: By id of the variable: rows, columns and rank.
        self._shapes: dict[int, tuple[int, int, int]] = {}
        #: The factors that the next step begins with, ``[rank, columns]``, by id of the variable.
        self._factors: dict[int, Variable] = {}
        self._steps: Variable | None = None
        self._memory = ResultMemory()

    def get_config(self) -> dict[str, Any]:
        """See Aggregator."""
        names = ("rank", "start_after", "min_compression")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        start = f" after {self.start_after} steps" if self.start_after else ""
        return f"mean (between nodes factors of rank {self.rank}{start}, the rest waits)"

    # -- state
    @property
    def weights(self) -> list[Variable]:
        """The residuals, the factors that the next step starts from, and the number of steps made."""
        steps = [] if self._steps is None else [self._steps]
        return [*super().weights, *self._factors.values(), *steps]

    def _shape(self, variable: Variable) -> tuple[int, int, int]:
        """Rows and columns of a variable's gradient, and the rank of its approximation."""
        ends = np.cumprod(variable.shape, dtype=np.int64).tolist()
        rows, columns = min(((n, variable.size // n) for n in ends[:-1] if n), key=sum)
        return rows, columns, min(self.rank, rows, columns)

    def _compresses(self, variable: Variable) -> bool:
        if variable.ndim < 2 or variable.size == 0:
            return False
        rows, columns, rank = self._shape(variable)
        return variable.size >= self.min_compression * rank * (rows + columns)

    def _prepare(self, variable: Variable) -> None:
        if self.start_after and self._steps is None:
            self._steps = Variable(0, trainable=False, name="power_sgd/steps", dtype=np.int64)
        _, columns, rank = self._shapes[id(variable)] = self._shape(variable)
        first = np.random.Generator(np.random.PCG64(len(self._factors))).normal(size=(rank, columns))
        name = f"{variable.name.removesuffix(':0')}/factor"
        self._factors[id(variable)] = Variable(first.astype(variable.dtype), trainable=False, name=name)

    def _step(self) -> int:
        return 0 if self._steps is None else int(self._steps.scalar())

    def _is_exact(self, step: int) -> bool:
        return self._steps is not None and step < self.start_after

    # -- the exchange
    def _exchange(self, exchange: NodeExchange) -> tuple[dict[int, Array], list[list[Array]], Any]:
        from distopt.engine.low_rank import expand, left_factor, orthonormal, right_factor  # compiled code

        context, matrices = exchange.context, [self._reshaped(c) for c in exchange.own]
        starts = [as_array(self._factors[id(c.variable)]) for c in exchange.own]
        lefts = [left_factor(*m, c.scale, q) for m, c, q in zip(matrices, exchange.own, starts, strict=True)]
        sums = list(map(as_array, context.nodes.all_reduce("sum", [*lefts, *exchange.exact])))
        exact, bases = sums[len(lefts) :], list(map(orthonormal, sums[: len(lefts)]))
        rights = [  # the last matrices first: the cache still has some of these; so below
            right_factor(*m, c.scale, p)
            for m, c, p in zip(matrices[::-1], exchange.own[::-1], bases[::-1], strict=True)
        ][::-1]
        totals = list(map(as_array, context.nodes.all_reduce("sum", rights)))
        everyone = as_array(context.node.all_gather(packed([*bases, *totals, *exact]), axis=0))
        found: dict[int, Array] = {}
        nexts: dict[int, Array] = {}
        parts, start = [], 0
        for variables, own in zip(exchange.dealt, exchange.parts, strict=True):
            specs = [*self._specs(variables), *own]
            stop = start + size_of(specs)
            arrays, start = unpacked(everyone[start:stop], specs), stop
            for k, v in reversed(list(enumerate(variables))):  # the update begins with the first ones
                p, q = arrays[k], arrays[len(variables) + k]
                found[id(v)] = self._memory.take(v.size, v.dtype)
                expand(p, q, found[id(v)].reshape(len(p), -1))
                nexts[id(v)] = _next_factor(p, q, as_array(self._factors[id(v)]))
            parts.append(arrays[2 * len(variables) :])
        mine = {
            id(c.variable): (p, q) if np.isfinite(nexts[id(c.variable)]).all() else None
            for c, p, q in zip(exchange.own, bases, rights, strict=True)
        }
        return found, parts, (mine, nexts)

    def _specs(self, variables: list[Variable]) -> list[Spec]:
        """Those of the left factors, then of the right ones."""
        shapes = [(*self._shapes[id(v)], v.dtype) for v in variables]
        lefts: list[Spec] = [((rows, rank), dtype) for rows, _, rank, dtype in shapes]
        return [*lefts, *(((rank, columns), dtype) for _, columns, rank, dtype in shapes)]

    def _reshaped(self, contribution: Contribution) -> tuple[Array, Array]:
        shape = self._shapes[id(contribution.variable)][:2]
        return contribution.gradient.reshape(shape), contribution.rest.reshape(shape)

    # -- after the step
    def _keep(self, contribution: Contribution, rest: Array, left: Any) -> None:
        from distopt.engine.low_rank import keep_rest

        factors = left[0][id(contribution.variable)]
        if factors is not None:
            gradient, _ = self._reshaped(contribution)
            keep_rest(gradient, rest.reshape(gradient.shape), contribution.scale, *factors)

    def _finish(self, left: Any, step: int) -> None:
        # Replicas that share the aggregator assign the same.
        if self._steps is not None and step < self.start_after:
            assign_alike(self._steps, step + 1)
        for key, factor in left[1].items() if left is not None else ():
            if np.isfinite(factor).all():
                assign_alike(self._factors[key], factor)


def _next_factor(p: Array, q: Array, before: Array) -> Array:
    """The factor that the next step starts from. A zero column keeps its previous value."""
    found: Array = np.asarray(p.any(axis=0))
    return np.where(found[:, np.newaxis], q, before)
