"""Program: a group's step as numbers, which one compiled loop runs from the first block to the last.

Between blocks the loop meets the other replicas by itself. So thousands of small variables, and
blocks small enough for a cache, cost no more than the memory that they move.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np

from distopt.collectives import tree_pairs
from distopt.comm import Communicator
from distopt.engine.arrays import Flats, address_of
from distopt.engine.choice import Choice
from distopt.engine.compiled import COMPILED, compiled
from distopt.engine.fold import Fold
from distopt.engine.layout import CHUNK, blocks, in_bytes, tables
from distopt.engine.ring import Ring
from distopt.engine.rule import Rule
from distopt.typing import Array

__all__ = ["Program", "arguments", "possible"]


def possible(node: Communicator, dtype: np.dtype[Any]) -> bool:
    """Whether the replicas of a node can run programs on elements of this dtype."""
    return node.size > 1 and node.meets_in_code and dtype in COMPILED


class Program:
    """The blocks of a group, for one replica of a node.

    Args:
        rule: the arithmetic.
        dtype: of all arrays.
        sizes: the variables' elements.
        places: for each variable the memory of its parameters and of each slot, and where it begins there.
        node: the replicas, which are all of the job.
    """

    def __init__(
        self,
        rule: Rule,
        dtype: np.dtype[Any],
        sizes: tuple[int, ...],
        places: Sequence[Sequence[tuple[Array, int]]],
        node: Communicator,
    ) -> None:
        self.rule, self.dtype, self.sizes, self.node = rule, dtype, sizes, node
        self._first, self._blocks = blocks(sizes, node.size)[0], len(blocks(sizes, node.size))
        self._kept = places  # addresses are good as long as their memory is there
        others, own, self._ends = tables(sizes, node.size, node.rank)
        self._sends = others * in_bytes(dtype.itemsize)
        starts = {id(base): address_of(base) for at in places for base, _ in at}
        homes = [[starts[id(base)] + offset * dtype.itemsize for base, offset in at] for at in places]
        at_home = np.array(homes, np.int64)[own[:, 0]] + dtype.itemsize * own[:, 1:2]
        #: Its own segments: those of the layout in bytes, and the addresses of parameters and slots.
        self.owns = np.hstack([own * in_bytes(dtype.itemsize), at_home])
        self._pairs = np.array(tree_pairs(node.size), np.int64)
        self._sums = np.empty((len(self._pairs), CHUNK), dtype)
        self._streamed = Choice()

    def run(self, ring: Ring, flats: Flats, coefficients: tuple[Any, ...], then: Fold) -> None:
        """Sums and updates this replica's shard.

        Args:
            ring: brings the other replicas' gradients.
            flats: this replica's gradients, one for each variable.
            coefficients: the rule's.
            then: what happens to the sums before the update.
        """
        self.go(ring, flats, _kernel(self.rule, self.dtype, then.plain), self.owns, coefficients, then)

    def go(
        self,
        ring: Ring,
        flats: Flats,
        kernel: Callable[..., int],
        owns: Array,
        coefficients: tuple[Any, ...],
        then: Fold,
    ) -> None:
        """Runs a kernel from the first block to the last, on its own segments ``owns``."""
        turn, (address, row) = ring.begin(self._first, flats), ring.place(self.dtype)
        where = (self.node.rank, self.node.size, address, row)
        streamed = not self._streamed.way()
        tables = (self._sends, owns, self._ends, flats.starts, self._pairs, self._sums)
        numbers = then.numbers(self.dtype)

        def code(counters: Array, met: int, first: int) -> int:
            return int(kernel(counters, met, first, streamed, turn, where, *tables, *numbers, coefficients))

        start = perf_counter()
        self.node.run(code, self._blocks - 1)
        self._streamed.took(perf_counter() - start)
        ring.passed(self._blocks)


@cache
def _kernel(rule: Rule, dtype: np.dtype[Any], plain: bool) -> Callable[..., int]:
    from distopt.engine import loops

    return compiled(rule, loops.program_template(len(rule.slots), plain), dtype, arguments(dtype))


def arguments(dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Numba's types of what :meth:`Program.go` calls a kernel with, but for the coefficients."""
    import numba
    from numba import int64

    scalar, flag = numba.from_dtype(dtype), numba.boolean
    where = numba.types.UniTuple(int64, 4)  # type: ignore[no-untyped-call]
    table, numbers = int64[:, ::1], int64[::1]
    tables = (table, table, table, numbers, table, scalar[:, ::1])
    return (numbers, int64, int64, flag, int64, where, *tables, scalar, scalar)
