"""Executor: the step of one group of variables, block after block, in compiled code.

The same kernel runs for one replica, for the replicas of one process and for MPI: between two blocks the
communicator lets the replicas meet. Over several nodes the kernel takes blocks that are summed already.

A step is fed in parts: gradients may become final one after the other, in the order of the variables.
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

__all__ = ["Executor", "Kernel", "KernelCall", "Place", "Step", "memory_beside"]

#: The memory that a parameter or a slot lies in, as one axis, and where it begins there.
Place = tuple[Array, int]

#: Compiled code.
Kernel: TypeAlias = Callable[..., Any]


class KernelCall(NamedTuple):
    """What runs over blocks.

    Attributes:
        kernel: see :mod:`distopt.engine.loops`.
        owns: this replica's own segments, with the addresses of what is written.
        starts: the addresses of its gradients.
        tail: the kernel's last arguments.
    """

    kernel: Kernel
    owns: Array
    starts: Array
    tail: tuple[Any, ...]


class KeptSums(NamedTuple):
    """Sums that wait for norms.

    Attributes:
        board: where their squares are written.
        sums: those of this replica's shards, one after the other.
        owns: the own segments, each with where its sum is kept and its squares are written.
    """

    board: NormBoard
    sums: Array
    owns: Array


class Executor:
    """What stays from step to step, for one replica.

    Args:
        rule: the arithmetic.
        dtype: that of the variables that are updated.
        sizes: the elements of all variables of the batch; 0 for those that are not updated here, not for all.
        places: for each variable that is updated where its parameters and each of its slots lie.
        reduce: sums this replica's shards.

    Attributes:
        kernel: gives what sums and updates, see :func:`fused.step_kernel`.
        scaled_kernel: gives what updates from sums that have been kept.
        partition: who updates what.
        blocks: how many blocks a step has.
        spans: what its blocks do when.
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
        #: Addresses are good as long as their memory is there.
        self.places = places
        self._addresses = _addresses(places)
        own, node = self.partition.own, reduce.node
        #: The own segments, each with the addresses of its parameters and slots.
        self.owns = np.hstack([own, self._addresses[own[:, 0]] + own[:, 1:2]])
        several = node.size > 1 and dtype in COMPILED
        buffer = reduce.staging.place(dtype.itemsize) if several else (0, 0)
        self._where = (node.rank, node.size, *buffer)
        self._first = self.partition.others_in(0)
        self._pairs = np.array(tree_pairs(node.size), np.int64).reshape(-1, 2)
        self._scratch = np.empty((max(len(self._pairs), 1), CHUNK), dtype)
        self._tuner = StoreTuner(settings().stores)
        self._kept: KeptSums | None = None

    def kept(self, board: NormBoard) -> KeptSums:
        """Where the sums of this replica's shards are kept until norms are known."""
        if self._kept is None or self._kept.board is not board:
            sums, places = memory_beside(self.owns, self.dtype, self.dtype)
            squares = board.places(self.owns, self.dtype.itemsize)
            owns = np.column_stack([self.owns[:, :4], places, squares, self.owns[:, 4:]])
            self._kept = KeptSums(board, sums, owns)
        return self._kept

    def state(self) -> list[Array]:
        """The memory that this replica writes when it updates its shards."""
        return [array for _, _, arrays in self._segments() for array in arrays]

    def _segments(self) -> Iterator[tuple[int, slice, list[Array]]]:
        """This replica's own segments: the variable, the elements, and parameters and slots there."""
        for number, part in self.partition.elements(self.partition.own):
            arrays = [base[at + part.start : at + part.stop] for base, at in self.places[number]]
            yield number, part, arrays

    def is_at(self, places: Sequence[Sequence[Place]]) -> bool:
        """Whether parameters and slots lie there."""
        return np.array_equal(self._addresses, _addresses(places))

    def blocks_before(self, variable: int) -> int:
        """How many of the first blocks hold nothing of this variable or of later ones."""
        before = np.searchsorted(self.partition.everyone[:, 0], variable)
        return int(np.searchsorted(self.partition.ends[2, 1:], before, side="right"))

    def stage_first_block(self, batch: GradientBatch) -> None:
        """Stages the first block before the replicas meet in the call's header.

        That meeting then serves this block too, when all have staged it. Nobody reads the staging buffer
        between the end of one call and the header of the next.
        """
        if self.reduce.cross.size > 1:
            self.reduce.stage_ahead(self.partition, batch.addresses, self.dtype.itemsize)
            return
        from distopt.collectives.pointers import send  # with compiled code, which takes time to load

        rank, _, address, row = self._where
        send(address + rank * row, self._first, batch.addresses)

    def send_first_block(self, batch: GradientBatch) -> None:
        """Sends it to other nodes, once it is staged on this one, before the nodes meet in that header."""
        self.reduce.send_ahead(self.partition, batch.gradients, self.dtype)

    def on_node(self, call: KernelCall, first: int, stop: int, staged: bool, marks: Array) -> None:
        """Runs blocks whose sums are made on this node.

        Args:
            call: what to run.
            first: the first block.
            stop: the block to stop before.
            staged: whether all replicas have staged the first one.
            marks: where times are taken to, see :mod:`distopt.engine.block_spans`.
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

        if stop - first == 1:  # nothing is staged meanwhile
            self.reduce.node.run(code, 1)
            return
        streamed = not self._tuner.choose()
        begin = perf_counter()
        self.reduce.node.run(code, stop - first)
        self._tuner.observe(perf_counter() - begin)
        staging.half ^= (stop - first - 1) & 1

    def on_block(self, call: KernelCall, block: int, total: Array) -> None:
        """Runs a block whose sum is finished: ``total``, this replica's shard of it."""
        offset = self.partition.shard(block).start * self.dtype.itemsize
        self._alone(call, (-1, 1, address_of(total) - offset, 0), block, block + 1)

    def update_own(self, batch: GradientBatch, coefficients: tuple[Any, ...]) -> None:
        """Updates this replica's shards with its own gradients, which are final."""
        if self.dtype not in COMPILED:
            self._evaluate(batch, coefficients)
            return
        kernel = self.kernel(False, True)
        tail = (*epilogue(None, None).numbers[self.dtype], coefficients)
        self._alone(KernelCall(kernel, self.owns, batch.addresses, tail), (0, 1, 0, 0), 0, self.blocks)

    def _evaluate(self, batch: GradientBatch, coefficients: tuple[Any, ...]) -> None:
        """The same by NumPy: no compiled code takes float16, bfloat16 or complex numbers."""
        for number, part, (w, *slots) in self._segments():
            gradient = as_array(batch.gradients[number]).reshape(-1)[part]
            kernels.dense(self.rule, w, gradient, tuple(slots), coefficients)

    def _alone(self, call: KernelCall, where: tuple[int, int, int, int], first: int, stop: int) -> None:
        """Runs blocks without the other replicas."""
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


def memory_beside(owns: Array, dtype: np.dtype[Any], kept: np.dtype[Any]) -> tuple[Array, Array]:
    """Memory for one more number beside each element of segments, which come in it one after the other.

    Args:
        owns: the segments, see ``Partition``.
        dtype: that of the elements.
        kept: that of the numbers.

    Returns:
        the memory, and where each segment begins in it.
    """
    ends = np.cumsum(owns[:, 2]) // dtype.itemsize
    memory = np.zeros(int(ends[-1]) if len(ends) else 0, kept)
    begins = address_of(memory) + (ends - owns[:, 2] // dtype.itemsize) * kept.itemsize
    return memory, begins


def _addresses(places: Sequence[Sequence[Place]]) -> Array:
    """Where parameters and slots begin: ``[variables, arrays]`` int64; 0 for variables without a place."""
    starts = {id(base): address_of(base) for at in places for base, _ in at}
    none = [0] * max(map(len, places))
    rows = [[starts[id(base)] + at * base.itemsize for base, at in place] or none for place in places]
    return np.array(rows, np.int64)


class Step:
    """One step of an executor: fed until all blocks have been summed, then finished.

    Blocks that were summed before are taken instead, in any order.

    Args:
        executor: whose.
        batch: this replica's gradients; they are read when they are fed.
        coefficients: the rule's.
        epilogue: what happens to the sums before the update.
        staged: whether all replicas have staged the first block, and sent it over nodes.
        board: where squares are put, if norms have to be known.
        sums: what sums shards over nodes; the executor's own, exact, by default.
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
        self._kept = None if board is None else executor.kept(board)

    def feed(self, stop: int) -> None:
        """Sums the blocks before number ``stop``, whose gradients are final, and updates if it can.

        All replicas feed alike.
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
        """Takes a block that has been summed: ``total`` is this replica's shard of it. Updates if it can."""
        self._next += 1
        executor, spans, begin = self._executor, self._executor.reduce.spans, perf_counter_ns()
        executor.on_block(self._kernel_call(False), block, total)
        if spans.on:
            names = executor.spans.names(self._batch, block)
            spans.add_since(f"update of block {block}", begin, variables=names)

    def _kernel_call(self, several: bool) -> KernelCall:
        """What runs over blocks; ``several`` if it sums the parts of several replicas."""
        executor, plain = self._executor, self._epilogue.plain
        numbers, starts = self._epilogue.numbers[executor.dtype], self._batch.addresses
        if self._kept is None:
            kernel = executor.kernel(several, plain)
            return KernelCall(kernel, executor.owns, starts, (*numbers, self._coefficients))
        kernel = fused.keep_kernel(executor.dtype, several, plain)
        return KernelCall(kernel, self._kept.owns, starts, (*numbers, (executor.dtype.type(0),)))

    def finish(self, scales: Scales | None = None) -> None:
        """Does all that is left.

        Args:
            scales: what the sums are scaled by, if norms had to be known: all have been fed before that.
        """
        executor = self._executor
        self.feed(executor.blocks)
        if self._kept is not None and scales is not None:
            if self._epilogue.clip is not None and self._epilogue.clip.norm == 0:
                self._kept.sums[:] = 0  # zeros without a sign, whatever the gradients were
            update = executor.scaled_kernel()
            update(self._kept.owns, *scales, self._coefficients)
