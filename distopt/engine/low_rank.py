"""Low-rank approximations in compiled code. Each pass reads a gradient and its residual once.

The matrix ``m`` is ``scale * gradient + rest``, where ``rest`` is the residual, all ``[rows, columns]``. Each
pass computes it; it is never stored. Its factors are ``p`` ``[rows, rank]`` and ``q`` ``[rank, columns]``.
One thread adds in a fixed order (:mod:`distopt.engine.row_blocks`), so the bits depend only on the numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from distopt.collectives.pointers import inlined, place
from distopt.comm.precompile import precompiled
from distopt.engine import row_blocks
from distopt.typing import Array

__all__ = ["expand", "keep_rest", "left_factor", "orthonormal", "right_factor"]

_BLOCK, _VECTOR_BYTES = row_blocks.BLOCK, row_blocks.VECTOR_BYTES
_dots, _one_dot = row_blocks.dots
_add_outer, _add_outer_of_row = row_blocks.add_outer
_subtract, _subtract_of_row = row_blocks.subtract
_expand_block, _expand_row = row_blocks.expand


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
    """Orthonormal columns that span the same space as those of ``p``: Gram-Schmidt in float64, done twice.

    A column that depends linearly on the columns before it becomes zero.
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


# The kernels below differ in the passes that they call. These are globals: if a kernel's closure held them,
# Numba would not find the kernel on disk again.
@cache
def _kernels(dtype: np.dtype[Any]) -> _LowRankKernels:
    return _LowRankKernels(dtype.name)


@inlined
def _at(matrix, row):  # type: ignore[no-untyped-def]
    """The address of a row."""
    return place(matrix) + row * matrix.shape[1] * matrix.itemsize


def _left(signature: str) -> Any:
    @precompiled(signature)
    def left(gradient, rest, scale, q, p):  # type: ignore[no-untyped-def]
        columns, rank, lanes = gradient.shape[1], q.shape[0], _VECTOR_BYTES // p.itemsize
        sums, whole = np.empty((rank, lanes), p.dtype), columns // lanes * lanes
        for i in range(gradient.shape[0]):
            g, e = _at(gradient, i), _at(rest, i)
            for k in range(0, rank // _BLOCK * _BLOCK, _BLOCK):
                _dots(scale, g, e, _at(sums, k), _at(q, k), columns)
            for k in range(rank // _BLOCK * _BLOCK, rank):
                _one_dot(scale, g, e, _at(sums, k), _at(q, k), columns)
            for k in range(rank):
                for j in range(whole, columns):
                    sums[k, j - whole] += (scale * gradient[i, j] + rest[i, j]) * q[k, j]
                p[i, k] = _total(sums[k])

    return left


@inlined
def _total(lanes):  # type: ignore[no-untyped-def]
    half = lanes.size // 2
    while half > 0:
        for lane in range(half):
            lanes[lane] += lanes[lane + half]
        half //= 2
    return lanes[0]


def _right(signature: str) -> Any:
    @precompiled(signature)
    def right(gradient, rest, scale, p, q):  # type: ignore[no-untyped-def]
        rows, columns, rank = gradient.shape[0], gradient.shape[1], q.shape[0]
        whole = rows // _BLOCK * _BLOCK
        for i in range(0, whole, _BLOCK):
            _add_outer(scale, _at(gradient, i), _at(rest, i), _at(p, i), place(q), columns, rank)
        for i in range(whole, rows):
            _add_outer_of_row(scale, _at(gradient, i), _at(rest, i), _at(p, i), place(q), columns, rank)

    return right


def _expand(signature: str) -> Any:
    @precompiled(signature)
    def expand_(p, q, result):  # type: ignore[no-untyped-def]
        rows, columns, rank = result.shape[0], result.shape[1], q.shape[0]
        whole, none = rows // _BLOCK * _BLOCK, q[0, 0]
        for i in range(0, whole, _BLOCK):
            _expand_block(none, 0, _at(result, i), _at(p, i), place(q), columns, rank)
        for i in range(whole, rows):
            _expand_row(none, 0, _at(result, i), _at(p, i), place(q), columns, rank)

    return expand_


def _rest(signature: str) -> Any:
    @precompiled(signature)
    def rest_(gradient, rest, scale, p, q):  # type: ignore[no-untyped-def]
        rows, columns, rank = gradient.shape[0], gradient.shape[1], q.shape[0]
        whole = rows // _BLOCK * _BLOCK
        for i in range(0, whole, _BLOCK):
            _subtract(scale, _at(gradient, i), _at(rest, i), _at(p, i), place(q), columns, rank)
        for i in range(whole, rows):
            _subtract_of_row(scale, _at(gradient, i), _at(rest, i), _at(p, i), place(q), columns, rank)

    return rest_
