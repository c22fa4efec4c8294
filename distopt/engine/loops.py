"""Templates of the compiled loops of a step: they sum the replicas' gradients and apply an update rule.

Each is compiled per rule and dtype, see :mod:`distopt.engine.compiled`. The kernels access memory by address.
A row is one replica's part of a block. A segment is a row of a table of :class:`Partition`.
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
    "sum_template",
    "rows_template",
    "scaled_direction_template",
    "scaled_template",
    "step_template",
]

# The value of element i that the rule gets: ``(a, b, i, p, q) -> value``. ``a`` and ``b`` are the last two
# partial sums (or the only row, twice), ``p`` and ``q`` two numbers such as divisor and limit. The sum is
# completed here, in the same pass as the update.


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
    """The value function. Without a divisor or limit it does not divide: that costs as much as some rules."""
    if several:
        return _two if plain else _two_bounded
    return _one if plain else _one_bounded


@inlined
def _update(rule, like, value, at, shift, a, b, p, q, c):  # type: ignore[no-untyped-def]
    """Applies the rule to parameters and slots, which begin ``shift`` bytes after the addresses ``at``."""
    begins: Any = addresses(at, like, shift)
    for i in range(a.size):
        state = load(begins, i, a.dtype)
        store(begins, i, rule(state[0], value(a, b, i, p, q), *state[1:], *c))


@inlined
def _store_sum(rule, like, value, at, shift, a, b, p, q, c):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Instead of updating, stores the gradient at address ``at[0] + shift``."""
    stored = array_at(at[0] + shift, a.size, a.dtype)
    for i in range(a.size):
        stored[i] = value(a, b, i, p, q)


@inlined
def _no_squares(at, size, dtype):  # type: ignore[no-untyped-def]
    """Does nothing: an updated segment needs no sums of squares."""


@inlined
def _write_squares(at, size, dtype):  # type: ignore[no-untyped-def]
    """Writes the sums of squares of a stored segment to ``at[1]``, while it is in the cache."""
    add_squares(array_at(at[0], size, dtype), array_at(at[1], (size + PIECE - 1) // PIECE, np.float64))


@inlined
def _write_two_squares(at, size, dtype):  # type: ignore[no-untyped-def]
    """Writes the sums of squares of parameters and directions to the last two addresses of ``at``."""
    pieces = (size + PIECE - 1) // PIECE
    for k in range(2):
        add_squares(array_at(at[k], size, dtype), array_at(at[at.size - 2 + k], pieces, np.float64))


def step_template(slots: int, several: bool, plain: bool) -> Callable[..., Any]:
    """Sums blocks over one or several replicas of a node, and updates this replica's shards."""
    return _block_loop(_update, (0,) * (slots + 1), _value(several, plain), _no_squares)


def sum_template(several: bool, plain: bool) -> Callable[..., Any]:
    """Like :func:`step_template`, but stores the sums and their sums of squares, and does not update."""
    return _block_loop(_store_sum, (0,), _value(several, plain), _write_squares)


def direction_template(slots: int, several: bool, plain: bool) -> Callable[..., Any]:
    """The first pass of a TrustRatioRule: directions, new slots, and the squares for the norms."""
    return _block_loop(_update, (0,) * (slots + 1), _value(several, plain), _write_two_squares)


def scaled_template(slots: int) -> Callable[..., Any]:
    """Updates from the sums that :func:`sum_template` stored, times a factor / divisor per variable."""
    return _stored_sum_loop((0,) * (slots + 1), _no_squares)


def scaled_direction_template(slots: int) -> Callable[..., Any]:
    """The first pass of a TrustRatioRule, from stored and scaled sums as in :func:`scaled_template`."""
    return _stored_sum_loop((0,) * (slots + 1), _write_two_squares)


def adapted_template(slots: int) -> Callable[..., Any]:
    """The second pass of a TrustRatioRule. The last coefficient is replaced by the variable's ratio."""
    like = (0,) * (slots + 1)

    def template(rule: Any, fingerprint: str, jit: Callable[[Any], Any]) -> Any:
        @jit
        def kernel(owns, ratios, c):  # type: ignore[no-untyped-def]
            fingerprint  # noqa: B018
            for k in range(len(owns)):
                numbers = c[:-1] + (ratios[owns[k, 0]],)  # noqa: RUF005
                u = array_at(owns[k, 4], owns[k, 2] // ratios.itemsize, ratios.dtype)
                _update(rule, like, _one, owns[k, 5:], 0, u, u, 0, 0, numbers)

        return kernel

    return template


def _stored_sum_loop(like: Any, close: Any) -> Callable[..., Any]:
    """A template that updates from stored sums, scaled per variable.

    Columns of ``owns`` as in ``executor.StoredSums``; ``factors`` and ``divisors`` are ``[variables]``.
    """

    def template(rule: Any, fingerprint: str, jit: Callable[[Any], Any]) -> Any:
        @jit
        def kernel(owns, factors, divisors, c):  # type: ignore[no-untyped-def]
            fingerprint  # noqa: B018
            for k in range(len(owns)):
                v, stored = owns[k, 0], array_at(owns[k, 4], owns[k, 2] // factors.itemsize, factors.dtype)
                _update(rule, like, _scaled, owns[k, 6:], 0, stored, stored, factors[v], divisors[v], c)
                close(owns[k, 6:], stored.size, stored.dtype)

        return kernel

    return template


def rows_template(slots: int) -> Callable[..., Any]:
    """Updates some rows of a matrix. A dense update is one row as wide as the array.

    The kernel's arguments: ``at``, the addresses of parameters and slots; ``g``, 1-D, the gradient's rows;
    ``rows``, their indices; ``width``, the elements of a row; ``c``, the coefficients.
    """
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


# The arguments of the kernel that sums and updates blocks:
# - counters, met: the barrier between blocks, see ``distopt.comm.compiled.CompiledCode``.
# - span: four block numbers: the first of the run, the first and the end of this call, the end of the
#   run. If the call returns early, the next call of the same run continues.
# - streamed: whether to write the staging buffer with non-temporal stores.
# - half: the half of the staging buffer (0 or 1) that contains the run's first block.
# - where: this replica's rank on the node, or -1 if the buffer contains its own part too; the number of
#   rows; the buffer's address; the bytes of a row.
# - tables: the segments of others' shards, to be staged; this replica's segments, followed by the
#   addresses that ``update`` and ``close`` get; ``Partition.ends``; the addresses of this replica's
#   gradients; the pairs of rows to add, in order (see ``tree_pairs``).
# - scratch: ``[additions - 1, CHUNK]``, for all partial sums except the last.
# - marks: receives the times of each block, see :mod:`distopt.engine.block_spans`; may be empty.
# - p, q, c: the two numbers of ``value``, and the rule's coefficients.
def _block_loop(update: Any, like: Any, value: Any, close: Any) -> Callable[..., Any]:
    """A template that sums blocks over the node's replicas, and calls ``update`` and ``close`` per segment.

    For each block, the kernel waits until all replicas have staged it, stages the next block, and sums and
    updates this replica's shard. Replicas need no other barrier, because the buffer has two halves.
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
    """Copies the segments ``sends[first:stop]`` from the gradients to a row of the staging buffer."""
    for k in range(first, stop):
        copy(there + sends[k, 3], starts[sends[k, 0]] + sends[k, 1], sends[k, 2], streamed)
    if streamed:
        fence()


@inlined
def _time(marks, k):  # type: ignore[no-untyped-def]
    """Writes the current time to ``marks[k]`` and ``marks[k + 1]``, unless ``marks`` is empty."""
    if marks.size > 0:
        take_time(place(marks) + k * 8)


@inlined
def _first_time(marks, k):  # type: ignore[no-untyped-def]
    """:func:`_time`, unless that time is set: after a long wait, a block is started again."""
    if marks.size > 0 and marks[k] == 0:
        take_time(place(marks) + k * 8)


@inlined
def _add_rows(rows, pairs, scratch, n):  # type: ignore[no-untyped-def]
    """Makes all additions except the last. Returns the indices of its two rows; ``0, 0`` for a single row.

    ``rows`` are addresses of ``n`` elements each. Addresses of partial sums replace them.
    """
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
