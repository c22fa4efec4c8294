"""Sparse gradients: sums them over replicas by rows, and updates variables from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distopt.collectives import all_reduce, reduce_rows
from distopt.comm import Communicator
from distopt.core.indexed_slices import IndexedSlices, sum_duplicates
from distopt.core.split import share
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.engine import kernels
from distopt.engine.batch import Gradient, GradientBatch
from distopt.engine.rule import Rule, Sparse
from distopt.typing import Array

__all__ = ["apply_rows", "densified", "densify_mixed", "reduced", "summed"]

#: Gradients are summed as dense arrays if the replicas together have this share of the variable's rows.
DENSITY = 0.5


def summed(gradient: IndexedSlices) -> tuple[Array, Array]:
    """This replica's rows with duplicates summed: ``(rows [k, ...], indices [k] int64, increasing)``."""
    rows, indices = sum_duplicates(gradient.values, gradient.indices)
    return np.ascontiguousarray(rows), indices.astype(np.int64, copy=False)


def reduced(
    comm: Communicator, gradient: IndexedSlices, height: int, divisor: int | None = None
) -> tuple[Array, Array]:
    """The sum or mean of all replicas' sparse gradients of one variable; collective.

    Each row is summed in tree order, with 0 for a replica that does not have the row. So the result is the
    same whether replicas exchange rows or dense arrays.

    Args:
        comm: all replicas.
        gradient: this replica's gradient.
        height: the number of rows of the variable.
        divisor: the divisor of the sum; None for 1.

    Returns:
        ``(rows [k, ...], indices [k] int64, increasing)``, the same on every replica.
    """
    rows, indices = _sum_rows(comm, *summed(gradient), height)
    return (rows if divisor is None else rows / rows.dtype.type(divisor)), indices


def _sum_rows(comm: Communicator, rows: Array, indices: Array, height: int) -> tuple[Array, Array]:
    """The sums of all replicas' rows, and the union of their indices; collective."""
    if comm.size == 1:
        return rows, indices
    counts = [int(n[0]) for n in comm.all_gather(np.array([len(indices)], np.int64))]
    padded = np.full(max(counts), -1, np.int64)
    padded[: len(indices)] = indices
    everyone = [row[:n] for row, n in zip(comm.all_gather(padded), counts, strict=True)]
    union = np.unique(np.concatenate(everyone))
    if sum(counts) >= DENSITY * height:
        dense = np.zeros((height, *rows.shape[1:]), rows.dtype)
        dense[indices] = rows
        return all_reduce(comm, dense.reshape(-1), "sum").reshape(dense.shape)[union], union
    sent = np.zeros((max(counts), *rows.shape[1:]), rows.dtype)
    sent[: len(rows)] = rows
    spread = []
    for values, where in zip(comm.all_gather(sent), everyone, strict=True):
        full = np.zeros((len(union), *rows.shape[1:]), rows.dtype)
        full[np.searchsorted(union, where)] = values[: len(where)]
        spread.append(full.reshape(-1))
    total = np.empty_like(spread[0])
    reduce_rows(spread, total)
    return total.reshape(len(union), *rows.shape[1:]), union


def apply_rows(
    rule: Rule,
    state: Sequence[Variable],
    coefficients: tuple[Any, ...],
    rows: Array,
    indices: Array,
    node: Communicator,
) -> None:
    """Updates this replica's share of a variable from a reduced sparse gradient.

    Args:
        rule: the update rule.
        state: the variable and its slots.
        coefficients: the coefficients of the rule.
        rows: ``[k, ...]``, the gradient's rows without duplicates, the same on all replicas.
        indices: ``[k]`` int64, increasing.
        node: the replicas that share the work.
    """
    height = len(state[0])
    w, *slots = (_table(as_array(v), height) for v in state)
    values = rows.reshape(len(indices), w.shape[1])
    if rule.sparse is Sparse.ROWS and rule.undecayed is None:
        mine = slice(*share(len(indices), node.rank, node.size))
        kernels.rows(rule, w, values[mine], indices[mine], tuple(slots), coefficients)
        return
    low, high = share(height, node.rank, node.size)
    first, last = np.searchsorted(indices, (low, high))
    own = tuple(table[low:high] for table in slots)
    kernels.sparse(rule, w[low:high], values[first:last], indices[first:last] - low, own, coefficients)


def _table(array: Array, height: int) -> Array:
    return array.reshape(height, array.size // height if height else 0)


def densify_mixed(comm: Communicator, batch: GradientBatch) -> GradientBatch:
    """Makes sparse gradients dense if any replica's gradient of the variable is dense; collective.

    ``comm``: all replicas.
    """
    everyone = comm.gather_bytes(bytes(isinstance(g, IndexedSlices) for g in batch.gradients))
    result = list(batch.gradients)
    for i, (gradient, variable) in enumerate(zip(batch.gradients, batch.variables, strict=True)):
        if isinstance(gradient, IndexedSlices) and not all(kinds[i] for kinds in everyone):
            result[i] = densified(gradient, variable.shape)
    return batch.with_gradients(result)


def densified(gradient: Gradient, shape: tuple[int, ...]) -> Array:
    """A gradient as a dense array of ``shape``, with zeros in rows without gradient."""
    if not isinstance(gradient, IndexedSlices):
        return gradient
    rows, indices = summed(gradient)
    dense = np.zeros(shape, rows.dtype)
    dense[indices] = rows
    return dense
