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
from distopt.engine.clip import clip_value
from distopt.engine.compiled import COMPILED, compiled
from distopt.engine.rule import Rule, where
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
    number = w.dtype.type
    divisor = number(1 if then.divisor is None else then.divisor)
    limit = number(np.inf if then.limit is None else then.limit)
    kernel = _kernel(rule, w.dtype, then.plain)
    kernel(w, *slots, *rows, divisor, limit, coefficients)


@cache
def _kernel(rule: Rule, dtype: np.dtype[Any], plain: bool) -> Callable[..., None]:
    import numba

    slots = len(rule.slots)
    scalar = numba.from_dtype(dtype)
    template = (_PLAIN if plain else _SCALED)[slots]
    return compiled(rule, template, dtype, f"w{'w' * slots}rr", (scalar, scalar))


@cache
def _scaler() -> Any:
    from numba.extending import register_jitable

    return register_jitable(_bounded)


def _bounded(total, divisor, limit):  # type: ignore[no-untyped-def]
    total = total / divisor
    return where(total > limit, limit, where(total < -limit, -limit, total))


# As in kernels.py there is one template for each number of slots. The division costs as much as the
# rest of some rules, so plain sums have templates without it.


def _plain_none(function: Any, fingerprint: str, jit: Callable[[Any], Any]) -> Any:
    @jit
    def kernel(w, a, b, divisor, limit, c):  # type: ignore[no-untyped-def]  # noqa: ARG001
        fingerprint  # noqa: B018
        for i in range(w.size):
            (w[i],) = function(w[i], a[i] + b[i], *c)

    return kernel


def _plain_one(function: Any, fingerprint: str, jit: Callable[[Any], Any]) -> Any:
    @jit
    def kernel(w, s0, a, b, divisor, limit, c):  # type: ignore[no-untyped-def]  # noqa: ARG001
        fingerprint  # noqa: B018
        for i in range(w.size):
            w[i], s0[i] = function(w[i], a[i] + b[i], s0[i], *c)

    return kernel


def _plain_two(function: Any, fingerprint: str, jit: Callable[[Any], Any]) -> Any:
    @jit
    def kernel(w, s0, s1, a, b, divisor, limit, c):  # type: ignore[no-untyped-def]  # noqa: ARG001
        fingerprint  # noqa: B018
        for i in range(w.size):
            w[i], s0[i], s1[i] = function(w[i], a[i] + b[i], s0[i], s1[i], *c)

    return kernel


def _plain_three(function: Any, fingerprint: str, jit: Callable[[Any], Any]) -> Any:
    @jit
    def kernel(w, s0, s1, s2, a, b, divisor, limit, c):  # type: ignore[no-untyped-def]  # noqa: ARG001
        fingerprint  # noqa: B018
        for i in range(w.size):
            w[i], s0[i], s1[i], s2[i] = function(w[i], a[i] + b[i], s0[i], s1[i], s2[i], *c)

    return kernel


def _scaled_none(function: Any, fingerprint: str, jit: Callable[[Any], Any]) -> Any:
    scale = _scaler()

    @jit
    def kernel(w, a, b, divisor, limit, c):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018
        for i in range(w.size):
            (w[i],) = function(w[i], scale((a[i] + b[i]), divisor, limit), *c)

    return kernel


def _scaled_one(function: Any, fingerprint: str, jit: Callable[[Any], Any]) -> Any:
    scale = _scaler()

    @jit
    def kernel(w, s0, a, b, divisor, limit, c):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018
        for i in range(w.size):
            w[i], s0[i] = function(w[i], scale((a[i] + b[i]), divisor, limit), s0[i], *c)

    return kernel


def _scaled_two(function: Any, fingerprint: str, jit: Callable[[Any], Any]) -> Any:
    scale = _scaler()

    @jit
    def kernel(w, s0, s1, a, b, divisor, limit, c):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018
        for i in range(w.size):
            w[i], s0[i], s1[i] = function(w[i], scale((a[i] + b[i]), divisor, limit), s0[i], s1[i], *c)

    return kernel


def _scaled_three(function: Any, fingerprint: str, jit: Callable[[Any], Any]) -> Any:
    scale = _scaler()

    @jit
    def kernel(w, s0, s1, s2, a, b, divisor, limit, c):  # type: ignore[no-untyped-def]
        fingerprint  # noqa: B018
        for i in range(w.size):
            w[i], s0[i], s1[i], s2[i] = function(
                w[i], scale((a[i] + b[i]), divisor, limit), s0[i], s1[i], s2[i], *c
            )

    return kernel


_PLAIN = (_plain_none, _plain_one, _plain_two, _plain_three)
_SCALED = (_scaled_none, _scaled_one, _scaled_two, _scaled_three)
