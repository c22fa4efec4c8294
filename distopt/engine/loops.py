"""The loops of a step, as compiled code: sums of rows and a rule, over memory given by addresses.

The templates here are compiled for each rule (see :mod:`distopt.engine.compiled`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from distopt.comm.spin import SPINS, YIELDS, signal, wait
from distopt.engine.layout import CHUNK
from distopt.engine.pointers import array_at, copy, fence, inlined, place

__all__ = ["fold_template", "program_template"]


@inlined
def _plain(total, divisor, limit):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """The sum as it is. A division costs as much as the rest of some rules."""
    return total


@inlined
def _bounded(total, divisor, limit):  # type: ignore[no-untyped-def]
    """The sum divided, and kept within ``[-limit, limit]``."""
    total = total / divisor
    return limit if total > limit else (-limit if total < -limit else total)


@inlined
def _update_none(rule, then, at, shift, a, b, divisor, limit, c):  # type: ignore[no-untyped-def]
    w = array_at(at[0] + shift, a.size, a.dtype)
    for i in range(a.size):
        (w[i],) = rule(w[i], then(a[i] + b[i], divisor, limit), *c)


@inlined
def _update_one(rule, then, at, shift, a, b, divisor, limit, c):  # type: ignore[no-untyped-def]
    w = array_at(at[0] + shift, a.size, a.dtype)
    s0 = array_at(at[1] + shift, a.size, a.dtype)
    for i in range(a.size):
        w[i], s0[i] = rule(w[i], then(a[i] + b[i], divisor, limit), s0[i], *c)


@inlined
def _update_two(rule, then, at, shift, a, b, divisor, limit, c):  # type: ignore[no-untyped-def]
    w = array_at(at[0] + shift, a.size, a.dtype)
    s0 = array_at(at[1] + shift, a.size, a.dtype)
    s1 = array_at(at[2] + shift, a.size, a.dtype)
    for i in range(a.size):
        w[i], s0[i], s1[i] = rule(w[i], then(a[i] + b[i], divisor, limit), s0[i], s1[i], *c)


@inlined
def _update_three(rule, then, at, shift, a, b, divisor, limit, c):  # type: ignore[no-untyped-def]
    w = array_at(at[0] + shift, a.size, a.dtype)
    s0 = array_at(at[1] + shift, a.size, a.dtype)
    s1 = array_at(at[2] + shift, a.size, a.dtype)
    s2 = array_at(at[3] + shift, a.size, a.dtype)
    for i in range(a.size):
        total = then(a[i] + b[i], divisor, limit)
        w[i], s0[i], s1[i], s2[i] = rule(w[i], total, s0[i], s1[i], s2[i], *c)


#: For each number of slots the last addition and the rule, in one pass; ``at`` holds the addresses of
#: parameters and slots.
_UPDATES = (_update_none, _update_one, _update_two, _update_three)


def fold_template(slots: int, plain: bool) -> Callable[..., Any]:
    """One pass over two rows, for a rule with so many slots."""
    update, then = _UPDATES[slots], _plain if plain else _bounded

    def template(rule: Any, fingerprint: str, jit: Callable[[Any], Any]) -> Any:
        @jit
        def kernel(at, a, b, divisor, limit, c):  # type: ignore[no-untyped-def]
            fingerprint  # noqa: B018
            update(rule, then, at, 0, a, b, divisor, limit, c)

        return kernel

    return template


def program_template(slots: int, plain: bool) -> Callable[..., Any]:
    """A whole step of one replica of a node: see :class:`distopt.engine.program.Program`."""
    update, then = _UPDATES[slots], _plain if plain else _bounded

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
                        update(rule, then, owns[k, 4:], shift, a, b, divisor, limit, c)
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
