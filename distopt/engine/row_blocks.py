"""Passes over a few rows of a matrix, for :mod:`distopt.engine.low_rank`.

A matrix ``m`` is ``scale * gradient + rest``. Its factors are ``p`` ``[rows, rank]`` and ``q``
``[rank, columns]``, of any rank. A pass loads each vector of ``m`` once and keeps it in a register while it
loops over the rank. All arithmetic is fused multiply-adds in a fixed order, so the bits are the same on any
processor. Matrices are C-contiguous and given by their addresses.

The passes are globals of the module, so that Numba finds the kernels that call them on disk again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from distopt.engine.vectors import Vectors, size_of

__all__ = ["BLOCK", "VECTOR_BYTES", "add_outer", "dots", "expand", "subtract"]

#: The number of rows in a block. The passes below are pairs: for a block of rows, and for a single row.
BLOCK = 4
VECTOR_BYTES = 64

_cgutils: Any = cgutils


def _count(number: int) -> Any:
    return ir.Constant(ir.IntType(64), number)


def _dots(rank: int) -> Any:
    """Returns a function for the dot products of a row of ``m`` with ``rank`` rows of ``q``.

    Its arguments are ``scale, gradient, rest, sums, q, columns``. It writes partial sums,
    ``[rank, lanes]``, of the columns that fill whole vectors; the caller adds the other columns.
    """

    @intrinsic
    def one_pass(typingctx, scale, gradient, rest, sums, q, columns):  # type: ignore[no-untyped-def] # noqa: ARG001
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            scale, gradient, rest, sums, q, columns = args
            scalar = context.get_value_type(signature.args[0])
            lanes, row = VECTOR_BYTES // size_of(scalar), builder.mul(columns, _count(size_of(scalar)))
            vectors = Vectors(builder, scalar, lanes)
            zero, scales = ir.Constant(vectors.type, None), vectors.spread(scale)
            totals = [_cgutils.alloca_once_value(builder, zero) for _ in range(rank)]  # become registers
            with _cgutils.for_range(builder, builder.udiv(columns, _count(lanes))) as loop:
                offset = builder.mul(loop.index, _count(VECTOR_BYTES))
                g, e = (vectors.load(builder.add(start, offset)) for start in (gradient, rest))
                m, at = vectors.fma(scales, g, e), builder.add(q, offset)
                for total in totals:
                    builder.store(vectors.fma(m, vectors.load(at), builder.load(total)), total)
                    at = builder.add(at, row)
            for k, total in enumerate(totals):
                vectors.store(builder.load(total), builder.add(sums, _count(k * VECTOR_BYTES)))
            return context.get_dummy_value()

        return types.void(scale, *[types.int64] * 5), codegen

    return one_pass


class _Rows:
    """Generates code for one vector in each row of a block, all in the same columns, and for its factors.

    Args:
        rows: the number of rows.
        builder: LLVM's instruction builder.
        vectors: loads and stores vectors.
        args: the arguments of a pass, see :func:`_passes`.
        column: the first column of the vectors.
    """

    def __init__(self, rows: int, builder: Any, vectors: Vectors, args: Sequence[Any], column: Any) -> None:
        self.numbers, self.builder, self.vectors, self._column = range(rows), builder, vectors, column
        self._scale, self._gradient, self._rest, self._p, self._q, self._columns, self._rank = args

    def _after(self, start: Any, count: Any) -> Any:
        """The address ``count`` numbers after ``start``."""
        return self.builder.add(start, self.builder.mul(count, _count(self.vectors.size)))

    def _place(self, start: Any, row: Any) -> Any:
        """The address of the vector in a row of a matrix with the columns of ``m``."""
        return self._after(start, self.builder.add(self.builder.mul(row, self._columns), self._column))

    def rest(self, row: int) -> Any:
        """The address of the vector in a row of ``rest``."""
        return self._place(self._rest, _count(row))

    def m(self) -> list[Any]:
        """The vectors of ``m``."""
        scale, load = self.vectors.spread(self._scale), self.vectors.load
        places = [(self._place(self._gradient, _count(r)), self.rest(r)) for r in self.numbers]
        return [self.vectors.fma(scale, load(g), load(e)) for g, e in places]

    def q(self) -> Iterator[tuple[Any, Any]]:
        """Opens a loop over the rows of ``q``: yields the index of the row and the address of its vector."""
        with _cgutils.for_range(self.builder, self._rank) as loop:
            yield loop.index, self._place(self._q, loop.index)

    def p(self, row: int, k: Any) -> Any:
        """The number ``p[row, k]`` in all lanes."""
        at = self.builder.add(self.builder.mul(_count(row), self._rank), k)
        return self.vectors.load_spread(self._after(self._p, at))


def _passes(body: Callable[[_Rows], None]) -> tuple[Any, Any]:
    """Returns the passes that apply ``body`` to all columns: one for a block of rows, one for a single row.

    Their arguments are ``scale, gradient, rest, p, q, columns, rank``: a number, four
    addresses, and two lengths.
    """
    return _of_rows(BLOCK, body), _of_rows(1, body)


def _of_rows(rows: int, body: Callable[[_Rows], None]) -> Any:
    @intrinsic
    def one_pass(typingctx, scale, gradient, rest, p, q, columns, rank):  # type: ignore[no-untyped-def] # noqa: ARG001
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            scalar, start, columns = context.get_value_type(signature.args[0]), _count(0), args[5]
            lanes = VECTOR_BYTES // size_of(scalar)
            whole = builder.mul(builder.udiv(columns, _count(lanes)), _count(lanes))
            for width, stop in ((lanes, whole), (1, columns)):  # the last columns one by one
                vectors = Vectors(builder, scalar, width)
                with _cgutils.for_range_slice(builder, start, stop, _count(width)) as (column, _):
                    body(_Rows(rows, builder, vectors, args, column))
                start = whole
            return context.get_dummy_value()

        return types.void(scale, *[types.int64] * 6), codegen

    return one_pass


def _add_outer(rows: _Rows) -> None:
    m = rows.m()
    for k, at in rows.q():
        total = rows.vectors.load(at)
        for r in rows.numbers:
            total = rows.vectors.fma(rows.p(r, k), m[r], total)
        rows.vectors.store(total, at)


def _subtract(rows: _Rows) -> None:
    _sum_up(rows, rows.m(), rows.builder.fneg)


def _expand(rows: _Rows) -> None:
    _sum_up(rows, [ir.Constant(rows.vectors.type, None)] * len(rows.numbers), lambda number: number)


def _sum_up(rows: _Rows, starts: Sequence[Any], sign: Callable[[Any], Any]) -> None:
    builder, vectors = rows.builder, rows.vectors
    totals = [_cgutils.alloca_once_value(builder, start) for start in starts]  # become registers
    for k, at in rows.q():
        factor = vectors.load(at)
        for r, total in enumerate(totals):
            builder.store(vectors.fma(sign(rows.p(r, k)), factor, builder.load(total)), total)
    for r, total in enumerate(totals):
        vectors.store(builder.load(total), rows.rest(r))


#: Dot products with ``BLOCK`` rows of ``q``, and with one.
dots = _dots(BLOCK), _dots(1)
#: ``q += p.T @ m``.
add_outer = _passes(_add_outer)
#: ``rest = m - p @ q``.
subtract = _passes(_subtract)
#: ``rest = p @ q``; without ``scale`` and ``gradient``.
expand = _passes(_expand)
