"""The last addition and the rule in one pass over the memory.

What a replica sums last is two rows: its own part of the gradient, read from where it lies, and the
other, read from the ring.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from distopt.engine import kernels
from distopt.engine.arrays import address_of
from distopt.engine.clip import clip_value
from distopt.engine.compiled import COMPILED, compiled
from distopt.engine.rule import Rule
from distopt.typing import Array

__all__ = ["Fold", "fold"]


class Fold:
    """What happens to the sum of the last two rows before the rule gets it.

    Args:
        divisor: what it is divided by, or None.
        limit: the bound of its elements, or None.
    """

    def __init__(self, divisor: int | None, limit: float | None) -> None:
        self.divisor, self.limit = divisor, limit
        #: Whether it stays as it is.
        self.plain = divisor is None and limit is None

    def numbers(self, dtype: np.dtype[Any]) -> tuple[Any, Any]:
        """Divisor and limit as scalars of ``dtype``, which change nothing where there is none."""
        divisor = 1 if self.divisor is None else self.divisor
        return dtype.type(divisor), dtype.type(np.inf if self.limit is None else self.limit)

    def __call__(self, total: Array, out: Array) -> Array:
        """The same on a whole array: ``total`` itself, or ``out``, of its length."""
        if self.divisor is not None:
            total = np.divide(total, total.dtype.type(self.divisor), out=out)
        if self.limit is not None:
            total = clip_value(total, self.limit, out=out)
        return total


def fold(
    rule: Rule,
    w: Array,
    rows: tuple[Array, Array],
    slots: tuple[Array, ...],
    coefficients: tuple[Any, ...],
    then: Fold,
) -> None:
    """Updates ``w`` and ``slots`` with the sum of two rows.

    Args:
        rule: what to compute.
        w: ``[n]``, contiguous, written.
        rows: two arrays like ``w``, read.
        slots: arrays like ``w``, one for each of the rule's slots, written.
        coefficients: scalars of the dtype, in the order of ``rule.coefficients``.
        then: division and bound of the sum.
    """
    if w.dtype not in COMPILED:
        total = rows[0] + rows[1]
        kernels.dense(rule, w, then(total, total), slots, coefficients)
        return
    divisor, limit = then.numbers(w.dtype)
    at = np.array(list(map(address_of, (w, *slots))), np.int64)
    _kernel(rule, w.dtype, then.plain)(at, *rows, divisor, limit, coefficients)


@cache
def _kernel(rule: Rule, dtype: np.dtype[Any], plain: bool) -> Callable[..., None]:
    import numba

    from distopt.engine import loops

    scalar = numba.from_dtype(dtype)
    row = numba.types.Array(scalar, 1, "C", readonly=True)
    arguments = (numba.int64[::1], row, row, scalar, scalar)
    return compiled(rule, loops.fold_template(len(rule.slots), plain), dtype, arguments)
