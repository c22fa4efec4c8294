"""Approximations of low rank in compiled code: each pass reads a gradient and what waits beside it once.

A matrix ``m`` is ``scale * gradient + rest``, both ``[rows, columns]``; it is not kept. Sums are made in
``_LANES`` partial sums, then by halves, by one thread: so the bits depend on the numbers alone. Factors are
``p`` ``[rows, rank]`` and ``q`` ``[rank, columns]``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from distopt.collectives.pointers import inlined
from distopt.comm.precompile import precompiled
from distopt.typing import Array

__all__ = ["expand", "keep_rest", "left_factor", "orthonormal", "right_factor"]

_LANES = 64


def left_factor(gradient: Array, rest: Array, scale: float, q: Array) -> Array:
    """``m @ q.T``, ``[rows, rank]``."""
    p = np.empty((len(gradient), len(q)), gradient.dtype)
    _kernels(gradient.dtype).left(gradient, rest, gradient.dtype.type(scale), q, p)
    return p


def right_factor(gradient: Array, rest: Array, scale: float, p: Array) -> Array:
    """``p.T @ m``, ``[rank, columns]``."""
    q = np.zeros((p.shape[1], gradient.shape[1]), gradient.dtype)
    _kernels(gradient.dtype).right(gradient, rest, gradient.dtype.type(scale), p, q)
    return q


def expand(p: Array, q: Array, result: Array) -> None:
    """``result = p @ q``."""
    _kernels(p.dtype).expand(p, q, result)


def orthonormal(p: Array) -> Array:
    """Columns that span what those of ``p`` do, by Gram-Schmidt, in float64 and twice over.

    A column that depends on those before it becomes zero.
    """
    columns = np.ascontiguousarray(p.T, np.float64)
    _orthonormalize(columns, 16.0 * np.finfo(p.dtype).eps)
    return np.ascontiguousarray(columns.T.astype(p.dtype))


@inlined
def _dot(x, y):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(x.size):
        total += x[i] * y[i]
    return total


@precompiled("void(float64[:, ::1], float64)")
def _orthonormalize(columns, least):  # type: ignore[no-untyped-def]
    for k in range(columns.shape[0]):
        column = columns[k]
        before = np.sqrt(_dot(column, column))
        for _ in range(2):
            for j in range(k):
                other = columns[j]
                along = _dot(other, column)
                for i in range(column.size):
                    column[i] -= along * other[i]
        length = np.sqrt(_dot(column, column))
        if length <= least * before:
            column[:] = 0
        else:
            for i in range(column.size):
                column[i] /= length


def keep_rest(gradient: Array, rest: Array, scale: float, p: Array, q: Array) -> None:
    """``rest = m - p @ q``."""
    _kernels(gradient.dtype).rest(gradient, rest, gradient.dtype.type(scale), p, q)


class _LowRankKernels:
    """The passes for one dtype."""

    def __init__(self, name: str) -> None:
        matrix, view = f"{name}[:, ::1]", f"Array({name}, 2, 'C', True)"
        self.left: Callable[..., None] = _left(f"void({view}, {matrix}, {name}, {matrix}, {matrix})")
        self.right: Callable[..., None] = _right(f"void({view}, {matrix}, {name}, {matrix}, {matrix})")
        self.expand: Callable[..., None] = _expand(f"void({matrix}, {matrix}, {matrix})")
        self.rest: Callable[..., None] = _rest(f"void({view}, {matrix}, {name}, {matrix}, {matrix})")


@cache
def _kernels(dtype: np.dtype[Any]) -> _LowRankKernels:
    return _LowRankKernels(dtype.name)


@inlined
def _row(gradient, rest, scale, row):  # type: ignore[no-untyped-def]
    for j in range(row.size):
        row[j] = scale * gradient[j] + rest[j]


def _left(signature: str) -> Any:
    @precompiled(signature)
    def left(gradient, rest, scale, q, p):  # type: ignore[no-untyped-def]
        columns, rank = gradient.shape[1], q.shape[0]
        row, sums = np.empty(columns, p.dtype), np.empty(_LANES, p.dtype)
        whole = columns // _LANES * _LANES
        for i in range(gradient.shape[0]):
            _row(gradient[i], rest[i], scale, row)
            for k in range(rank):
                other = q[k]
                sums[:] = 0
                for start in range(0, whole, _LANES):
                    x, y = row[start : start + _LANES], other[start : start + _LANES]
                    for lane in range(_LANES):
                        sums[lane] += x[lane] * y[lane]
                for j in range(whole, columns):
                    sums[j - whole] += row[j] * other[j]
                half = _LANES // 2
                while half > 0:
                    for lane in range(half):
                        sums[lane] += sums[lane + half]
                    half //= 2
                p[i, k] = sums[0]

    return left


def _right(signature: str) -> Any:
    @precompiled(signature)
    def right(gradient, rest, scale, p, q):  # type: ignore[no-untyped-def]
        columns, whole = gradient.shape[1], gradient.shape[0] // 4 * 4
        rows = np.empty((4, columns), q.dtype)
        x0, x1, x2, x3 = rows[0], rows[1], rows[2], rows[3]
        for i in range(0, whole, 4):  # four at a time, as below
            for k in range(4):
                _row(gradient[i + k], rest[i + k], scale, rows[k])
            for k in range(p.shape[1]):
                f0, f1, f2, f3, total = p[i, k], p[i + 1, k], p[i + 2, k], p[i + 3, k], q[k]
                for j in range(columns):
                    total[j] += f0 * x0[j] + f1 * x1[j] + f2 * x2[j] + f3 * x3[j]
        for i in range(whole, gradient.shape[0]):
            _row(gradient[i], rest[i], scale, x0)
            for k in range(p.shape[1]):
                factor, total = p[i, k], q[k]
                for j in range(columns):
                    total[j] += factor * x0[j]

    return right


@inlined
def _approximation(factors, q, row):  # type: ignore[no-untyped-def]
    whole = q.shape[0] // 4 * 4
    if whole == 0:
        row[:] = 0
    for k in range(0, whole, 4):  # four at a time, since most of the time goes into reading and writing
        f0, f1, f2, f3 = factors[k], factors[k + 1], factors[k + 2], factors[k + 3]
        q0, q1, q2, q3 = q[k], q[k + 1], q[k + 2], q[k + 3]
        if k == 0:
            for j in range(row.size):
                row[j] = f0 * q0[j] + f1 * q1[j] + f2 * q2[j] + f3 * q3[j]
        else:
            for j in range(row.size):
                row[j] += f0 * q0[j] + f1 * q1[j] + f2 * q2[j] + f3 * q3[j]
    for k in range(whole, q.shape[0]):
        factor, part = factors[k], q[k]
        for j in range(row.size):
            row[j] += factor * part[j]


def _expand(signature: str) -> Any:
    @precompiled(signature)
    def expand_(p, q, result):  # type: ignore[no-untyped-def]
        for i in range(p.shape[0]):
            _approximation(p[i], q, result[i])

    return expand_


def _rest(signature: str) -> Any:
    @precompiled(signature)
    def rest_(gradient, rest, scale, p, q):  # type: ignore[no-untyped-def]
        row, near = np.empty(gradient.shape[1], q.dtype), np.empty(gradient.shape[1], q.dtype)
        for i in range(gradient.shape[0]):
            _row(gradient[i], rest[i], scale, row)
            _approximation(p[i], q, near)
            for j in range(row.size):
                rest[i, j] = row[j] - near[j]

    return rest_
