"""Applies update rules to whole arrays or rows, in compiled code or in NumPy, according to the dtype.

Each element is computed from its own inputs only, without fused or reordered operations. So the result does
not depend on how arrays are divided into shards, or on which replica updates a shard.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from distopt.collectives import addresses_of
from distopt.engine.compiled import COMPILED, compiled
from distopt.engine.rule import Rule, Sparse
from distopt.typing import Array

__all__ = ["dense", "rows", "sparse"]

Arrays: TypeAlias = tuple[Array, ...]
Scalars: TypeAlias = tuple[Any, ...]

#: How many elements to process at a time if that needs temporary arrays: they take half of an L2 cache.
_BLOCK = 1 << 16
#: The row indices of a dense update, see ``loops.rows_template``.
_FIRST_ROW = np.zeros(1, np.int64)


def dense(rule: Rule, w: Array, g: Array, slots: Arrays, coefficients: Scalars) -> None:
    """Updates ``w`` and ``slots`` in place.

    Args:
        rule: the update rule.
        w: ``[n]``, contiguous, written.
        g: ``[n]``, contiguous, of the same dtype; may be read-only.
        slots: arrays like ``w``, one for each of the rule's slots, written.
        coefficients: in the order of ``rule.coefficients``, scalars of ``rule.arithmetic_dtype(w.dtype)``.
    """
    if w.dtype in COMPILED:
        _kernel(rule, w.dtype)(addresses_of((w, *slots)), g, _FIRST_ROW, w.size, coefficients)
        return
    for start in range(0, w.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        _evaluate(rule, (w, *slots), part, g[part], coefficients)


def rows(rule: Rule, w: Array, values: Array, indices: Array, slots: Arrays, coefficients: Scalars) -> None:
    """Updates only the rows ``indices`` of ``w`` and ``slots``, in place.

    Args:
        rule: the update rule.
        w: ``[n, width]``, contiguous, written.
        values: ``[k, width]``, contiguous, of the same dtype: the rows of the gradient.
        indices: ``[k]`` int64, distinct, each in ``[0, n)``.
        slots: arrays like ``w``.
        coefficients: as in :func:`dense`.
    """
    if w.dtype in COMPILED:
        at = addresses_of((w, *slots))
        _kernel(rule, w.dtype)(at, values.reshape(-1), indices, w.shape[1], coefficients)
    else:
        _evaluate(rule, (w, *slots), indices, values, coefficients)


def sparse(rule: Rule, w: Array, values: Array, indices: Array, slots: Arrays, coefficients: Scalars) -> None:
    """Updates ``w`` and ``slots`` in place from a sparse gradient, according to ``rule.sparse``.

    Arguments as in :func:`rows`; ``indices`` must increase. ``w`` and ``slots`` may be a range of a
    variable's rows; then pass the gradient's rows in this range, with indices relative to its start.
    """
    if rule.undecayed is not None and rule.sparse is not Sparse.ALL:
        _decay_others(rule, w, indices, coefficients[-1])
    if rule.sparse is Sparse.ROWS:
        rows(rule, w, values, indices, slots, coefficients)
        return
    height = max(1, _BLOCK // max(1, w.shape[1]))
    gradient = np.zeros((min(height, len(w)), w.shape[1]), w.dtype)
    for start in range(0, len(w), height):
        block = w[start : start + height]
        first, last = np.searchsorted(indices, (start, start + height))
        touched = indices[first:last] - start
        g = gradient[: len(block)]
        g[touched] = values[first:last]
        kept = [s[start : start + height].reshape(-1) for s in slots]
        if rule.sparse is Sparse.ALL:
            dense(rule, block.reshape(-1), g.reshape(-1), tuple(kept), coefficients)
        else:
            moved = block.copy()
            dense(rule, moved.reshape(-1), g.reshape(-1), tuple(kept), coefficients)
            block[touched] = moved[touched]
        g[touched] = 0


def _decay_others(rule: Rule, w: Array, indices: Array, decay: Any) -> None:
    """Multiplies all rows except ``indices`` by ``1 - decay``."""
    kept, values = w[indices], w.reshape(-1)
    wide = rule.arithmetic_dtype(w.dtype)
    with np.errstate(all="ignore"):
        for start in range(0, w.size, _BLOCK):
            block = values[start : start + _BLOCK].astype(wide, copy=False)
            values[start : start + _BLOCK] = block - block * decay
    w[indices] = kept


def _evaluate(rule: Rule, state: Arrays, part: Any, g: Array, coefficients: Scalars) -> None:
    """Runs the rule in NumPy on ``part``, a slice or indices, of the arrays in ``state``."""
    wide = rule.arithmetic_dtype(state[0].dtype)
    w, *slots = (array[part].astype(wide, copy=False) for array in state)
    with np.errstate(all="ignore"):
        values = rule.function(w, g.astype(wide, copy=False), *slots, *coefficients)
        for array, value in zip(state, values, strict=True):
            array[part] = value  # rounds to nearest, ties to even


@cache
def _kernel(rule: Rule, dtype: np.dtype[Any]) -> Callable[..., None]:
    """The kernel of ``loops.rows_template``: ``(addresses of w and slots, g, rows, width, coefficients)``."""
    import numba

    from distopt.engine import loops

    scalar = numba.from_dtype(dtype)
    read, numbers = (numba.types.Array(kind, 1, "C", readonly=True) for kind in (scalar, numba.int64))
    arguments = (numba.int64[::1], read, numbers, numba.int64)
    return compiled(rule, loops.rows_template(len(rule.slots)), dtype, arguments)
