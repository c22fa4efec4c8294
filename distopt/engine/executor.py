"""Executor: executes the step of one group of variables in compiled code, block by block.

The same kernel runs for one replica, for several replicas in one process, and for MPI processes. On one node
it also sums the blocks, with a barrier between two of them. With several nodes it gets blocks already summed.

A step accepts gradients in parts, because they may become final one after the other, in the order of the
variables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from time import perf_counter, perf_counter_ns
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from distopt.collectives import CHUNK, Partition, ShardReduce, Sums, address_of, tree_pairs
from distopt.comm.compiled import open_barrier
from distopt.core.tensor import as_array
from distopt.engine import fused, kernels
from distopt.engine.batch import GradientBatch
from distopt.engine.block_spans import NO_MARKS, BlockSpans
from distopt.engine.compiled import COMPILED
from distopt.engine.epilogue import Epilogue, epilogue
from distopt.engine.norm_board import NormBoard, Scales
from distopt.engine.rule import Rule
from distopt.engine.store_tuner import StoreTuner
from distopt.settings import settings
from distopt.typing import Array

__all__ = ["Executor", "Kernel", "KernelCall", "Place", "Step", "per_element_memory"]

#: The 1-D memory that contains a parameter or a slot, and its offset there, in elements.
Place = tuple[Array, int]

#: A compiled kernel.
Kernel: TypeAlias = Callable[..., Any]


class KernelCall(NamedTuple):
    """A kernel, and the arguments that are the same for all blocks of a step.

    Attributes:
        kernel: see :mod:`distopt.engine.loops`.
        owns: ``[segments, 4 + addresses]`` int64: the segments of this replica's shards (see ``Partition``),
            followed by the addresses that the kernel writes for each.
        starts: ``[variables]`` int64, the addresses of this replica's gradients.
        tail: the kernel's last arguments.
    """

    kernel: Kernel
    owns: Array
    starts: Array
    tail: tuple[Any, ...]


class StoredSums(NamedTuple):
    """The summed gradients of this replica's shards, stored until the norms are known.

    Attributes:
        board: the board for the sums of squares.
        sums: 1-D, the sums of all segments, one after the other.
        owns: as in ``KernelCall``: the addresses of each segment's sums, its sums of squares, its parameters
            and its slots.
    """

    board: NormBoard
    sums: Array
    owns: Array


class Executor:
    """Executes the steps of a group of variables with one rule and one dtype, for one replica.

    Args:
        rule: the update rule.
        dtype: the dtype of the group.
        sizes: for each variable of the batch, its number of elements, or 0 outside the group; not all 0.
        places: for each variable of the batch, the places of its parameters and of each slot; empty if it is
            not in the group.
        reduce: sums this replica's shards.

    Attributes:
        kernel: ``(several, plain) -> kernel`` that sums and updates, see :func:`fused.step_kernel`.
        scaled_kernel: ``() -> kernel`` that updates from stored sums.
        partition: the blocks and shards.
        blocks: the number of blocks of a step.
        spans: records the times of blocks for the trace.
    """

    def __init__(
        self,
        rule: Rule,
        dtype: np.dtype[Any],
        sizes: tuple[int, ...],
        places: Sequence[Sequence[Place]],
        reduce: ShardReduce,
    ) -> None:
        self.rule, self.dtype, self.sizes, self.reduce = rule, dtype, sizes, reduce
        self.kernel: Callable[[bool, bool], Kernel] = partial(fused.step_kernel, rule, dtype)
        self.scaled_kernel: Callable[[], Kernel] = partial(fused.scaled_kernel, rule, dtype)
        self.partition: Partition = reduce.partition(sizes, dtype.itemsize)
        self.blocks = self.partition.blocks
        self.spans = BlockSpans(reduce.spans, self.partition)
        self.places = places  # keeps the memory alive to which the addresses point
        self._addresses = _addresses(places)
        own, node = self.partition.own, reduce.node
        #: As in KernelCall: the addresses of each segment's parameters and slots.
        self.owns = np.hstack([own, self._addresses[own[:, 0]] + own[:, 1:2]])
        several = node.size > 1 and dtype in COMPILED
        buffer = reduce.staging.place(dtype.itemsize) if several else (0, 0)
        self._where = (node.rank, node.size, *buffer)
        self._first = self.partition.others_in(0)
        self._pairs = np.array(tree_pairs(node.size), np.int64).reshape(-1, 2)
        self._scratch = np.empty((max(len(self._pairs), 1), CHUNK), dtype)
        self._tuner = StoreTuner(settings().stores)
        self._stored: StoredSums | None = None

    def stored_sums(self, board: NormBoard) -> StoredSums:
        """Memory for the sums of this replica's shards, to be stored until the norms are known."""
        if self._stored is None or self._stored.board is not board:
            sums, places = per_element_memory(self.owns, self.dtype, self.dtype)
            squares = board.places(self.owns, self.dtype.itemsize)
            owns = np.column_stack([self.owns[:, :4], places, squares, self.owns[:, 4:]])
            self._stored = StoredSums(board, sums, owns)
        return self._stored

    def state(self) -> list[Array]:
        """Views of all parameters and slots that this replica updates, 1-D each."""
        return [array for _, _, arrays in self._segments() for array in arrays]

    def _segments(self) -> Iterator[tuple[int, slice, list[Array]]]:
        """This replica's segments: index of the variable, its elements, and views of parameters and slots."""
        for number, part in self.partition.elements(self.partition.own):
            arrays = [base[at + part.start : at + part.stop] for base, at in self.places[number]]
            yield number, part, arrays

    def is_at(self, places: Sequence[Sequence[Place]]) -> bool:
        """Whether the executor's parameters and slots are at these places."""
        return np.array_equal(self._addresses, _addresses(places))

    def blocks_before(self, variable: int) -> int:
        """How many blocks come before the first one that contains elements of this or a later variable."""
        before = np.searchsorted(self.partition.everyone[:, 0], variable)
        return int(np.searchsorted(self.partition.ends[2, 1:], before, side="right"))

    def stage_first_block(self, batch: GradientBatch) -> None:
        """Writes the first block to the staging buffer, before the step's header.

        If all replicas do so, the header is also the barrier for this block. Writing is safe: no replica
        reads the staging buffer between the end of one call and the header of the next.
        """
        if self.reduce.cross.size > 1:
            self.reduce.stage_ahead(self.partition, batch.addresses, self.dtype.itemsize)
            return
        from distopt.collectives.pointers import send  # with compiled code, which takes time to load

        rank, _, address, row = self._where
        send(address + rank * row, self._first, batch.addresses)

    def send_first_block(self, batch: GradientBatch) -> None:
        """Sends the first block to other nodes, once this node's replicas have staged it.

        This happens while the headers of the nodes are exchanged.
        """
        self.reduce.send_ahead(self.partition, batch.gradients, self.dtype)

    def on_node(self, call: KernelCall, first: int, stop: int, staged: bool, marks: Array) -> None:
        """Runs blocks that the kernel sums over the replicas of this node; collective.

        Args:
            call: the kernel to run.
            first: the first block.
            stop: the number after the last block.
            staged: whether all replicas have staged the first block.
            marks: receives the times of each block, see :mod:`distopt.engine.block_spans`.
        """
        kernel, owns, starts, tail = call
        staging = self.reduce.staging
        if self.reduce.node.size > 1 and not staged:
            staging.begin(self.partition, first, starts, self.dtype.itemsize)
        half, streamed = staging.half, False
        tables = (self.partition.others, owns, self.partition.ends, starts, self._pairs)

        def code(counters: Array, met: int, part: int, parts: int) -> int:
            span = (first, first + part, first + parts, stop)
            return (
                int(
                    kernel(
                        counters, met, span, streamed, half, self._where, tables, self._scratch, marks, *tail
                    )
                )
                - first
            )

        if stop - first == 1:  # the kernel stages no further block, so how it stores does not matter
            self.reduce.node.run(code, 1)
            return
        streamed = not self._tuner.choose()
        begin = perf_counter()
        self.reduce.node.run(code, stop - first)
        self._tuner.observe(perf_counter() - begin)
        staging.half ^= (stop - first - 1) & 1

    def on_block(self, call: KernelCall, block: int, total: Array) -> None:
        """Runs a block that is already summed: ``total`` is this replica's shard of the sum, 1-D."""
        # The kernel adds each segment's offset in the block to this address.
        offset = self.partition.shard(block).start * self.dtype.itemsize
        self._alone(call, (-1, 1, address_of(total) - offset, 0), block, block + 1)

    def update_own(self, batch: GradientBatch, coefficients: tuple[Any, ...]) -> None:
        """Updates this replica's shards from its own gradients, which are final."""
        if self.dtype not in COMPILED:
            self._evaluate(batch, coefficients)
            return
        kernel = self.kernel(False, True)
        tail = (*epilogue(None, None).numbers[self.dtype], coefficients)
        self._alone(KernelCall(kernel, self.owns, batch.addresses, tail), (0, 1, 0, 0), 0, self.blocks)

    def _evaluate(self, batch: GradientBatch, coefficients: tuple[Any, ...]) -> None:
        """:meth:`update_own` in NumPy, for dtypes without compiled code: float16, bfloat16 and complex."""
        for number, part, (w, *slots) in self._segments():
            gradient = as_array(batch.gradients[number]).reshape(-1)[part]
            kernels.dense(self.rule, w, gradient, tuple(slots), coefficients)

    def _alone(self, call: KernelCall, where: tuple[int, int, int, int], first: int, stop: int) -> None:
        """Runs blocks without the other replicas; for ``where`` see ``loops._block_loop``."""
        kernel, owns, starts, tail = call
        tables = (self.partition.others, owns, self.partition.ends, starts, self._pairs[:0])
        kernel(
            open_barrier(1),
            0,
            (first, first, stop, stop),
            False,
            0,
            where,
            tables,
            self._scratch,
            NO_MARKS,
            *tail,
        )


def per_element_memory(owns: Array, dtype: np.dtype[Any], stored: np.dtype[Any]) -> tuple[Array, Array]:
    """Allocates memory with one number for each element of some segments, one segment after the other.

    Args:
        owns: the segments, see ``Partition``.
        dtype: the dtype of the elements.
        stored: the dtype of the numbers.

    Returns:
        the memory, 1-D and zero; and the address of each segment's numbers, ``[segments]`` int64.
    """
    ends = np.cumsum(owns[:, 2]) // dtype.itemsize
    memory = np.zeros(int(ends[-1]) if len(ends) else 0, stored)
    begins = address_of(memory) + (ends - owns[:, 2] // dtype.itemsize) * stored.itemsize
    return memory, begins


def _addresses(places: Sequence[Sequence[Place]]) -> Array:
    """The addresses of parameters and slots, ``[variables, 1 + slots]`` int64; 0 for empty places."""
    starts = {id(base): address_of(base) for at in places for base, _ in at}
    none = [0] * max(map(len, places))
    rows = [[starts[id(base)] + at * base.itemsize for base, at in place] or none for place in places]
    return np.array(rows, np.int64)


class Step:
    """One step of an executor: :meth:`feed` until all blocks are summed, then :meth:`finish`.

    Blocks that were summed before the step are passed to :meth:`take` instead, in any order.

    Args:
        executor: the executor.
        batch: this replica's gradients; :meth:`feed` reads them.
        coefficients: the coefficients of the rule.
        epilogue: the division and clip between sum and update.
        staged: whether all replicas have staged the first block and, with several nodes, sent it.
        board: the board for sums of squares, if the step clips by norm.
        sums: sums shards over nodes; by default ``executor.reduce``, which is exact.
    """

    def __init__(
        self,
        executor: Executor,
        batch: GradientBatch,
        coefficients: tuple[Any, ...],
        epilogue: Epilogue,
        staged: bool = False,
        board: NormBoard | None = None,
        sums: Sums | None = None,
    ) -> None:
        self._executor, self._batch = executor, batch
        self._coefficients, self._epilogue = coefficients, epilogue
        self._staged, self._next, self._sums = staged, 0, sums or executor.reduce
        self._stored = None if board is None else executor.stored_sums(board)

    def feed(self, stop: int) -> None:
        """Sums the next blocks up to number ``stop - 1``, whose gradients are final; collective.

        Updates in the same pass, except in a step that clips by norm: that stores the sums.
        """
        first, executor = self._next, self._executor
        if stop <= first:
            return
        reduce = executor.reduce
        if reduce.cross.size == 1:
            self._next = stop
            call = self._kernel_call(reduce.node.size > 1)
            marks = executor.spans.marks(self._batch, range(first, stop)) if reduce.spans.on else NO_MARKS
            executor.on_node(call, first, stop, self._staged and first == 0, marks)
            return
        blocks = range(first, stop)
        arrays, starts = self._batch.gradients, self._batch.addresses
        ahead = self._staged and first == 0
        totals = self._sums.totals(executor.partition, arrays, starts, executor.dtype, blocks, ahead=ahead)
        for block, total in zip(blocks, totals, strict=True):
            self.take(block, total)

    def take(self, block: int, total: Array) -> None:
        """Like :meth:`feed`, for a block already summed: ``total`` is this replica's shard of the sum."""
        self._next += 1
        executor, spans, begin = self._executor, self._executor.reduce.spans, perf_counter_ns()
        executor.on_block(self._kernel_call(False), block, total)
        if spans.on:
            names = executor.spans.names(self._batch, block)
            spans.add_since(f"update of block {block}", begin, variables=names)

    def _kernel_call(self, several: bool) -> KernelCall:
        """The kernel of this step; ``several``: whether it sums the gradients of several replicas."""
        executor, plain = self._executor, self._epilogue.plain
        numbers, starts = self._epilogue.numbers[executor.dtype], self._batch.addresses
        if self._stored is None:
            kernel = executor.kernel(several, plain)
            return KernelCall(kernel, executor.owns, starts, (*numbers, self._coefficients))
        kernel = fused.sum_kernel(executor.dtype, several, plain)
        return KernelCall(kernel, self._stored.owns, starts, (*numbers, (executor.dtype.type(0),)))

    def finish(self, scales: Scales | None = None) -> None:
        """Sums and updates the remaining blocks; in a step that clips by norm, updates from the stored sums.

        Args:
            scales: the factors and divisors of the sums, in a step that clips by norm, after all blocks
                were fed.
        """
        executor = self._executor
        self.feed(executor.blocks)
        if self._stored is not None and scales is not None:
            if self._epilogue.clip is not None and self._epilogue.clip.norm == 0:
                self._stored.sums[:] = 0  # scaling by 0 would leave -0.0, and NaN where a sum is not finite
            update = executor.scaled_kernel()
            update(self._stored.owns, *scales, self._coefficients)
