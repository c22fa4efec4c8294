"""The loops of a step as compiled code: sums of rows and a rule, over memory given by addresses.

The templates here are compiled for each rule (see :mod:`distopt.engine.compiled`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from distopt.collectives.partition import CHUNK, PIECE
from distopt.collectives.pointers import array_at, copy, fence, inlined, place
from distopt.comm.spin import SPINS, YIELDS, signal, take_time, wait
from distopt.engine.squares import add_squares
from distopt.engine.tuples import addresses, load, store

__all__ = [
    "adapted_template",
    "direction_template",
    "keep_template",
    "rows_template",
    "scaled_direction_template",
    "scaled_template",
    "step_template",
]

# What becomes of the last two rows, or of the only one, before the rule: ``(a, b, i, p, q) -> value``.


@inlined
def _one(a, b, i, divisor, limit):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return a[i]


@inlined
def _two(a, b, i, divisor, limit):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return a[i] + b[i]


@inlined
def _one_bounded(a, b, i, divisor, limit):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return _bounded(a[i] / divisor, limit)


@inlined
def _two_bounded(a, b, i, divisor, limit):  # type: ignore[no-untyped-def]
    return _bounded((a[i] + b[i]) / divisor, limit)


@inlined
def _bounded(total, limit):  # type: ignore[no-untyped-def]
    return limit if total > limit else (-limit if total < -limit else total)


@inlined
def _scaled(a, b, i, factor, divisor):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return a[i] * factor / divisor


def _value(several: bool, plain: bool) -> Any:
    """A division costs as much as the rest of some rules, so it is there only where it is needed."""
    if several:
        return _two if plain else _two_bounded
    return _one if plain else _one_bounded


@inlined
def _update(rule, like, value, at, shift, a, b, p, q, c):  # type: ignore[no-untyped-def]
    """Applies the rule to parameters and slots, which lie ``shift`` bytes after the addresses ``at``."""
    begins: Any = addresses(at, like, shift)
    for i in range(a.size):
        state = load(begins, i, a.dtype)
        store(begins, i, rule(state[0], value(a, b, i, p, q), *state[1:], *c))


@inlined
def _keep(rule, like, value, at, shift, a, b, p, q, c):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Only keeps the gradient, at ``at[0]``."""
    kept = array_at(at[0] + shift, a.size, a.dtype)
    for i in range(a.size):
        kept[i] = value(a, b, i, p, q)


@inlined
def _leave(at, size, dtype):  # type: ignore[no-untyped-def]
    """Nothing is to be done with a segment that has been updated."""


@inlined
def _take_squares(at, size, dtype):  # type: ignore[no-untyped-def]
    """The sums of squares of a segment that has been kept, while it is in a cache; to ``at[1]``."""
    add_squares(array_at(at[0], size, dtype), array_at(at[1], (size + PIECE - 1) // PIECE, np.float64))


@inlined
def _take_both(at, size, dtype):  # type: ignore[no-untyped-def]
    """The same of parameters and directions, at ``at[0]`` and ``at[1]``; to the last two addresses."""
    pieces = (size + PIECE - 1) // PIECE
    for k in range(2):
        add_squares(array_at(at[k], size, dtype), array_at(at[at.size - 2 + k], pieces, np.float64))


def step_template(slots: int, several: bool, plain: bool) -> Callable[..., Any]:
    """Sums block after block over one or several replicas of a node, and updates the own shard."""
    return _through_blocks(_update, (0,) * (slots + 1), _value(several, plain), _leave)


def keep_template(several: bool, plain: bool) -> Callable[..., Any]:
    """The same without an update: the sums are kept, and their squares summed."""
    return _through_blocks(_keep, (0,), _value(several, plain), _take_squares)


def direction_template(slots: int, several: bool, plain: bool) -> Callable[..., Any]:
    """The first pass of a TrustRatioRule: directions, new slots, and the squares for the norms."""
    return _through_blocks(_update, (0,) * (slots + 1), _value(several, plain), _take_both)


def scaled_template(slots: int) -> Callable[..., Any]:
    """One pass over what :func:`keep_template` has kept: each variable's has a factor and a divisor."""
    return _through_kept((0,) * (slots + 1), _leave)


def scaled_direction_template(slots: int) -> Callable[..., Any]:
    """The same for :func:`direction_template`."""
    return _through_kept((0,) * (slots + 1), _take_both)


def adapted_template(slots: int) -> Callable[..., Any]:
    """The second pass of a TrustRatioRule: the last coefficient is the variable's ratio."""
    like = (0,) * (slots + 1)

    def template(rule: Any, fingerprint: str, jit: Callable[[Any], Any]) -> Any:
        @jit
        def kernel(owns, ratios, c):  # type: ignore[no-untyped-def]
            fingerprint  # noqa: B018
            for k in range(len(owns)):
                own = c[:-1] + (ratios[owns[k, 0]],)  # noqa: RUF005
                u = array_at(owns[k, 4], owns[k, 2] // ratios.itemsize, ratios.dtype)
                _update(rule, like, _one, owns[k, 5:], 0, u, u, 0, 0, own)

        return kernel

    return template


def _through_kept(like: Any, close: Any) -> Callable[..., Any]:
    """Updates from sums that have been kept."""

    def template(rule: Any, fingerprint: str, jit: Callable[[Any], Any]) -> Any:
        @jit
        def kernel(owns, factors, divisors, c):  # type: ignore[no-untyped-def]
            fingerprint  # noqa: B018
            for k in range(len(owns)):
                v, kept = owns[k, 0], array_at(owns[k, 4], owns[k, 2] // factors.itemsize, factors.dtype)
                _update(rule, like, _scaled, owns[k, 6:], 0, kept, kept, factors[v], divisors[v], c)
                close(owns[k, 6:], kept.size, kept.dtype)

        return kernel

    return template


def rows_template(slots: int) -> Callable[..., Any]:
    """Updates some rows of a matrix; a dense update is one row as wide as the array."""
    like = (0,) * (slots + 1)

    def template(rule: Any, fingerprint: str, jit: Callable[[Any], Any]) -> Any:
        @jit
        def kernel(at, g, rows, width, c):  # type: ignore[no-untyped-def]
            fingerprint  # noqa: B018
            for k in range(rows.size):
                y = g[k * width : (k + 1) * width]
                _update(rule, like, _one, at, rows[k] * width * g.itemsize, y, y, 0, 0, c)

        return kernel

    return template


def _through_blocks(update: Any, like: Any, value: Any, close: Any) -> Callable[..., Any]:
    """Sums block after block with the other replicas; ``update`` gets the last two rows.

    The kernel's arguments:
        counters, met: how the replicas meet, see ``distopt.comm.compiled.CompiledCode``.
        span: the first block of this run, the one to begin with, the one to stop before, and the run's end.
        streamed: whether the staging buffer is written past the caches.
        half: the half of it that the run's first block is in.
        where: this replica's number (-1: its own part is in the buffer too), how many rows there are, the
            buffer's address, and the bytes of a row.
        tables: what is written for others; what is updated here, a row going on with the addresses that
            ``update`` and ``close`` get; where each block's rows begin in these (see ``Partition``); the
            addresses of this replica's gradients; and the order of additions.
        scratch: room for all additions but the last.
        marks: times are taken to there, see `distopt.engine.block_spans`; empty for none.
        p, q, c: what ``value`` and the rule get.
    """

    def template(rule: Any, fingerprint: str, jit: Callable[[Any], Any]) -> Any:
        @jit
        def kernel(counters, met, span, streamed, half, where, tables, scratch, marks, p, q, c):  # type: ignore[no-untyped-def]
            fingerprint  # noqa: B018
            rank, size, buffer, row_bytes = where
            begin, first, stop, end = span
            sends, owns, ends, starts, pairs = tables
            rows = np.empty(size, np.int64)
            item = scratch.itemsize
            for block in range(first, stop):
                part, mark = block - begin, block * 8
                _first_time(marks, mark)
                if part > 0 and wait(counters, size, met + part, SPINS, YIELDS) >= 0:
                    return block
                _time(marks, mark + 2)
                here = buffer + ((half + part) & 1) * size * row_bytes
                if block + 1 < end and size > 1:
                    there = buffer + ((half + part + 1) & 1) * size * row_bytes + rank * row_bytes
                    _stage(there, sends, ends[0, block + 1], ends[0, block + 2], starts, streamed)
                _time(marks, mark + 4)
                for k in range(ends[1, block], ends[1, block + 1]):
                    length = owns[k, 2] // item
                    step = length if len(pairs) <= 1 else CHUNK
                    for at in range(0, length, step):
                        n, shift = min(step, length - at), at * item
                        for r in range(size):
                            rows[r] = here + r * row_bytes + owns[k, 3] + shift
                        if rank >= 0:
                            rows[rank] = starts[owns[k, 0]] + owns[k, 1] + shift
                        i, j = _add_rows(rows, pairs, scratch, n)
                        a, b = array_at(rows[i], n, scratch.dtype), array_at(rows[j], n, scratch.dtype)
                        update(rule, like, value, owns[k, 4:], shift, a, b, p, q, c)
                    close(owns[k, 4:], length, scratch.dtype)
                _time(marks, mark + 6)
                if block + 1 < end and size > 1:
                    signal(counters, rank, met + part + 1)
            return stop

        return kernel

    return template


@inlined
def _stage(there, sends, first, stop, starts, streamed):  # type: ignore[no-untyped-def]
    """Copies segments of a table from gradients to a row of the staging buffer."""
    for k in range(first, stop):
        copy(there + sends[k, 3], starts[sends[k, 0]] + sends[k, 1], sends[k, 2], streamed)
    if streamed:
        fence()


@inlined
def _time(marks, k):  # type: ignore[no-untyped-def]
    """Takes the time to ``marks[k]``, if there are any."""
    if marks.size > 0:
        take_time(place(marks) + k * 8)


@inlined
def _first_time(marks, k):  # type: ignore[no-untyped-def]
    """The same, unless it has been taken: a block may be begun again after a long wait."""
    if marks.size > 0 and marks[k] == 0:
        take_time(place(marks) + k * 8)


@inlined
def _add_rows(rows, pairs, scratch, n):  # type: ignore[no-untyped-def]
    """Makes all additions but the last; returns the two rows that are left, or the only one twice."""
    if len(pairs) == 0:
        return 0, 0
    last = len(pairs) - 1
    for p in range(last):
        i, j = pairs[p, 0], pairs[p, 1]
        a, b = array_at(rows[i], n, scratch.dtype), array_at(rows[j], n, scratch.dtype)
        for k in range(n):
            scratch[p, k] = a[k] + b[k]
        rows[i] = place(scratch) + p * scratch.shape[1] * scratch.itemsize
    return pairs[last, 0], pairs[last, 1]
