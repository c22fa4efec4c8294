"""The loops of a step, as compiled code: sums of rows and a rule, over memory given by addresses.

The templates here are compiled for each rule (see :mod:`distopt.engine.compiled`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from distopt.comm.spin import SPINS, YIELDS, signal, wait
from distopt.engine.layout import CHUNK, PIECE
from distopt.engine.pointers import array_at, copy, fence, inlined, place
from distopt.engine.squares import add_squares

__all__ = ["fold_template", "keep_template", "program_template", "scaled_template"]


@inlined
def _plain(a, b, i, divisor, limit):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """The sum as it is. A division costs as much as the rest of some rules."""
    return a[i] + b[i]


@inlined
def _bounded(a, b, i, divisor, limit):  # type: ignore[no-untyped-def]
    """The sum divided, and kept within ``[-limit, limit]``."""
    total = (a[i] + b[i]) / divisor
    return limit if total > limit else (-limit if total < -limit else total)


@inlined
def _scaled(a, b, i, factor, divisor):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """One row alone, scaled."""
    return a[i] * factor / divisor


@inlined
def _update_none(rule, value, at, shift, a, b, p, q, c):  # type: ignore[no-untyped-def]
    w = array_at(at[0] + shift, a.size, a.dtype)
    for i in range(a.size):
        (w[i],) = rule(w[i], value(a, b, i, p, q), *c)


@inlined
def _update_one(rule, value, at, shift, a, b, p, q, c):  # type: ignore[no-untyped-def]
    w = array_at(at[0] + shift, a.size, a.dtype)
    s0 = array_at(at[1] + shift, a.size, a.dtype)
    for i in range(a.size):
        w[i], s0[i] = rule(w[i], value(a, b, i, p, q), s0[i], *c)


@inlined
def _update_two(rule, value, at, shift, a, b, p, q, c):  # type: ignore[no-untyped-def]
    w = array_at(at[0] + shift, a.size, a.dtype)
    s0 = array_at(at[1] + shift, a.size, a.dtype)
    s1 = array_at(at[2] + shift, a.size, a.dtype)
    for i in range(a.size):
        w[i], s0[i], s1[i] = rule(w[i], value(a, b, i, p, q), s0[i], s1[i], *c)


@inlined
def _update_three(rule, value, at, shift, a, b, p, q, c):  # type: ignore[no-untyped-def]
    w = array_at(at[0] + shift, a.size, a.dtype)
    s0 = array_at(at[1] + shift, a.size, a.dtype)
    s1 = array_at(at[2] + shift, a.size, a.dtype)
    s2 = array_at(at[3] + shift, a.size, a.dtype)
    for i in range(a.size):
        g = value(a, b, i, p, q)
        w[i], s0[i], s1[i], s2[i] = rule(w[i], g, s0[i], s1[i], s2[i], *c)


#: For each number of slots the rule, with the gradient that ``value`` makes of two rows in the same pass;
#: ``at`` holds the addresses of parameters and slots.
_UPDATES = (_update_none, _update_one, _update_two, _update_three)


@inlined
def _keep(rule, value, at, shift, a, b, p, q, c):  # type: ignore[no-untyped-def]  # noqa: ARG001
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


def fold_template(slots: int, plain: bool) -> Callable[..., Any]:
    """One pass over two rows, for a rule with so many slots."""
    update, value = _UPDATES[slots], _plain if plain else _bounded

    def template(rule: Any, fingerprint: str, jit: Callable[[Any], Any]) -> Any:
        @jit
        def kernel(at, a, b, divisor, limit, c):  # type: ignore[no-untyped-def]
            fingerprint  # noqa: B018
            update(rule, value, at, 0, a, b, divisor, limit, c)

        return kernel

    return template


def program_template(slots: int, plain: bool) -> Callable[..., Any]:
    """A whole step of one replica of a node: see :class:`distopt.engine.program.Program`."""
    return _through_the_ring(_UPDATES[slots], _plain if plain else _bounded, _leave)


def keep_template(plain: bool) -> Callable[..., Any]:
    """The same without an update: the sums are kept, and their squares summed."""
    return _through_the_ring(_keep, _plain if plain else _bounded, _take_squares)


def scaled_template(slots: int) -> Callable[..., Any]:
    """One pass over what :func:`keep_template` has kept: each variable's has a factor and a divisor."""
    update = _UPDATES[slots]

    def template(rule: Any, fingerprint: str, jit: Callable[[Any], Any]) -> Any:
        @jit
        def kernel(owns, factors, divisors, c):  # type: ignore[no-untyped-def]
            fingerprint  # noqa: B018
            for k in range(len(owns)):
                v, kept = owns[k, 0], array_at(owns[k, 4], owns[k, 2] // factors.itemsize, factors.dtype)
                update(rule, _scaled, owns[k, 6:], 0, kept, kept, factors[v], divisors[v], c)

        return kernel

    return template


def _through_the_ring(update: Any, value: Any, close: Any) -> Callable[..., Any]:
    """Sums block after block with the other replicas; ``update`` gets the last two rows."""

    def template(rule: Any, fingerprint: str, jit: Callable[[Any], Any]) -> Any:
        @jit
        def kernel(  # type: ignore[no-untyped-def]
            counters,
            met,
            first,
            streamed,
            turn,
            where,
            sends,
            owns,
            ends,
            starts,
            pairs,
            scratch,
            divisor,
            limit,
            c,
        ):
            fingerprint  # noqa: B018
            rank, size, ring, row_bytes = where
            rows = np.empty(size, np.int64)
            item = scratch.itemsize
            last = ends.shape[1] - 2
            for block in range(first, last + 1):
                if block > 0 and wait(counters, size, met + block, SPINS, YIELDS) >= 0:
                    return block
                here = ring + ((turn + block) & 1) * size * row_bytes
                if block < last:
                    there = ring + ((turn + block + 1) & 1) * size * row_bytes + rank * row_bytes
                    for k in range(ends[0, block + 1], ends[0, block + 2]):
                        copy(there + sends[k, 3], starts[sends[k, 0]] + sends[k, 1], sends[k, 2], streamed)
                    if streamed:
                        fence()
                for k in range(ends[1, block], ends[1, block + 1]):
                    length = owns[k, 2] // item
                    step = length if len(pairs) == 1 else CHUNK
                    for begin in range(0, length, step):
                        n, shift = min(step, length - begin), begin * item
                        for r in range(size):
                            rows[r] = here + r * row_bytes + owns[k, 3] + shift
                        rows[rank] = starts[owns[k, 0]] + owns[k, 1] + shift
                        i, j = _add_rows(rows, pairs, scratch, n)
                        a, b = array_at(rows[i], n, scratch.dtype), array_at(rows[j], n, scratch.dtype)
                        update(rule, value, owns[k, 4:], shift, a, b, divisor, limit, c)
                    close(owns[k, 4:], length, scratch.dtype)
                if block < last:
                    signal(counters, rank, met + block + 1)
            return last + 1

        return kernel

    return template


@inlined
def _add_rows(rows, pairs, scratch, n):  # type: ignore[no-untyped-def]
    """Makes all additions but the last; returns the two rows that are left."""
    last = len(pairs) - 1
    for p in range(last):
        i, j = pairs[p, 0], pairs[p, 1]
        a, b = array_at(rows[i], n, scratch.dtype), array_at(rows[j], n, scratch.dtype)
        for k in range(n):
            scratch[p, k] = a[k] + b[k]
        rows[i] = place(scratch) + p * scratch.shape[1] * scratch.itemsize
    return pairs[last, 0], pairs[last, 1]
