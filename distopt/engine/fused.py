"""The kernels of a step, compiled once for each rule, dtype and kind of step."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from distopt.engine.compiled import compiled
from distopt.engine.rule import Rule

__all__ = [
    "adapted_kernel",
    "direction_kernel",
    "sum_kernel",
    "scaled_direction_kernel",
    "scaled_kernel",
    "step_kernel",
]


def _sum_alone(w: Any, g: Any, unused: Any) -> tuple[Any]:  # noqa: ARG001
    return (g,)


#: A placeholder rule, for kernels that only store the sums.
_SUM = Rule("sum", _sum_alone)


@cache
def step_kernel(rule: Rule, dtype: np.dtype[Any], several: bool, plain: bool) -> Callable[..., int]:
    """The kernel that sums and updates: see ``step_template`` in :mod:`distopt.engine.loops`.

    Args:
        rule: the update rule.
        dtype: float32 or float64.
        several: whether it sums the gradients of several replicas.
        plain: whether the sums are neither divided nor clipped by value before the rule.
    """
    from distopt.engine import loops

    return compiled(rule, loops.step_template(len(rule.slots), several, plain), dtype, _arguments(dtype))


@cache
def direction_kernel(rule: Rule, dtype: np.dtype[Any], several: bool, plain: bool) -> Callable[..., int]:
    """The first pass of a TrustRatioRule: ``rule`` is its ``direction``; arguments as for step_kernel."""
    from distopt.engine import loops

    return compiled(rule, loops.direction_template(len(rule.slots), several, plain), dtype, _arguments(dtype))


@cache
def sum_kernel(dtype: np.dtype[Any], several: bool, plain: bool) -> Callable[..., int]:
    """The kernel that sums, and stores sums and sums of squares; arguments as for :func:`step_kernel`."""
    from distopt.engine import loops

    return compiled(_SUM, loops.sum_template(several, plain), dtype, _arguments(dtype))


@cache
def scaled_kernel(rule: Rule, dtype: np.dtype[Any]) -> Callable[..., None]:
    """The kernel that updates from stored sums, scaled per variable."""
    from distopt.engine import loops

    table, numbers = _tables(dtype)
    return compiled(rule, loops.scaled_template(len(rule.slots)), dtype, (table, numbers, numbers))


@cache
def scaled_direction_kernel(rule: Rule, dtype: np.dtype[Any]) -> Callable[..., None]:
    """The first pass of a TrustRatioRule from stored sums, scaled per variable."""
    from distopt.engine import loops

    table, numbers = _tables(dtype)
    return compiled(rule, loops.scaled_direction_template(len(rule.slots)), dtype, (table, numbers, numbers))


@cache
def adapted_kernel(rule: Rule, dtype: np.dtype[Any]) -> Callable[..., None]:
    """The second pass of a TrustRatioRule: ``rule`` is its ``step``."""
    from distopt.engine import loops

    return compiled(rule, loops.adapted_template(len(rule.slots)), dtype, _tables(dtype))


def _tables(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Numba's types of a table of segments, and of an array with one number per variable."""
    import numba

    return numba.int64[:, ::1], numba.from_dtype(dtype)[::1]


@cache
def _arguments(dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Numba's types of the arguments of a step's kernel, except the coefficients."""
    import numba
    from numba import int64

    scalar, flag = numba.from_dtype(dtype), numba.boolean
    four = numba.types.UniTuple(int64, 4)  # type: ignore[no-untyped-call]
    table, numbers = int64[:, ::1], int64[::1]
    tables = numba.types.Tuple((table, table, table, numbers, table))  # type: ignore[no-untyped-call]
    return (numbers, int64, four, flag, int64, four, tables, scalar[:, ::1], numbers, scalar, scalar)
