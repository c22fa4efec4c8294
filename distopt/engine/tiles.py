"""The compiled loops of :mod:`distopt.engine.products`: matrix products by tiles of the result."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from distopt.collectives.pointers import inlined, place
from distopt.comm.precompile import precompiled
from distopt.engine.vectors import Vectors, size_of

__all__ = ["COLUMN_BYTES", "ROWS", "multiplier"]

#: The rows of a tile, and the bytes of a row, two vectors: a tile fits into the registers of AVX2 and NEON.
ROWS, COLUMN_BYTES = 6, 64
_VECTORS, _VECTOR_BYTES = 2, 32
#: How many terms of each sum to add at a time, so that the columns of the second factor stay in the cache.
_DEPTH = 256

_cgutils: Any = cgutils


@intrinsic
def _add_tile(typingctx: Any, like: Any, a: Any, b: Any, c: Any, depth: Any, stride: Any) -> Any:  # noqa: ARG001
    """Adds ``depth`` outer products of ``ROWS`` numbers and a row of two vectors to a tile, by fma.

    ``a``, ``b`` and ``c`` are addresses in packed factors and in the result; ``stride`` is the number of
    elements of a row of the result.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, a, b, c, depth, stride = args
        scalar = context.get_value_type(signature.args[0])
        size = size_of(scalar)
        memory = Vectors(builder, scalar, _VECTOR_BYTES // size)
        places, row = [], c
        for _ in range(ROWS):
            places += [builder.add(row, _count(_VECTOR_BYTES * h)) for h in range(_VECTORS)]
            row = builder.add(row, builder.mul(stride, _count(size)))
        sums = [_cgutils.alloca_once(builder, memory.type) for _ in places]  # becomes registers
        for at, total in zip(places, sums, strict=True):
            builder.store(memory.load(at), total)
        with _cgutils.for_range(builder, depth) as loop:
            left = builder.add(a, builder.mul(loop.index, _count(ROWS * size)))
            right = builder.add(b, builder.mul(loop.index, _count(COLUMN_BYTES)))
            columns = [memory.load(builder.add(right, _count(_VECTOR_BYTES * h))) for h in range(2)]
            for i in range(ROWS):
                number = memory.load_spread(builder.add(left, _count(i * size)))
                for h in range(_VECTORS):
                    total = sums[_VECTORS * i + h]
                    builder.store(memory.fma(number, columns[h], builder.load(total)), total)
        for at, total in zip(places, sums, strict=True):
            memory.store(builder.load(total), at)
        return context.get_dummy_value()

    return types.void(like, *[types.int64] * 5), codegen


def _count(number: int) -> Any:
    return ir.Constant(ir.IntType(64), number)


@inlined
def _multiply(a, b, c, upper):  # type: ignore[no-untyped-def]
    """See :func:`multiplier`."""
    like, size, stride = c[0, 0], c.itemsize, c.shape[1]
    rows, length, columns, width = a.shape[0], a.shape[1], b.shape[0], b.shape[2]
    for start in range(0, length, _DEPTH):
        depth = min(_DEPTH, length - start)
        for j in range(columns):
            right = place(b) + (j * length + start) * width * size
            for i in range(rows):
                if upper and i * ROWS >= (j + 1) * width:
                    break
                left = place(a) + (i * length + start) * ROWS * size
                _add_tile(like, left, right, place(c) + (i * ROWS * stride + j * width) * size, depth, stride)


@cache
def multiplier(dtype: np.dtype[Any]) -> Any:
    """The function ``(a, b, c, upper)`` that adds the product of packed factors to ``c``.

    ``a`` is ``[rows / ROWS, length, ROWS]``, ``b`` is ``[columns / width, length, width]`` with a width of
    ``COLUMN_BYTES``, and ``c`` is ``[rows, columns]``. If ``upper``, it skips tiles below the diagonal. The
    function is compiled at its first use.
    """
    return _float32() if dtype == np.float32 else _float64()


def _float32() -> Any:
    @precompiled("void(float32[:, :, ::1], float32[:, :, ::1], float32[:, ::1], boolean)")
    def multiply_float32(a, b, c, upper):  # type: ignore[no-untyped-def]
        _multiply(a, b, c, upper)

    return multiply_float32


def _float64() -> Any:
    @precompiled("void(float64[:, :, ::1], float64[:, :, ::1], float64[:, ::1], boolean)")
    def multiply_float64(a, b, c, upper):  # type: ignore[no-untyped-def]
        _multiply(a, b, c, upper)

    return multiply_float64
