"""Spans of the blocks of a step that are summed within one compiled loop, which takes the time as it goes."""

from __future__ import annotations

import numpy as np

from distopt.collectives import Partition
from distopt.comm import SpanRecorder
from distopt.engine.batch import GradientBatch
from distopt.typing import Array

__all__ = ["NO_MARKS", "add_blocks", "block_names", "marks_for"]

#: int64 numbers a block: four times, each as seconds and nanoseconds. They are taken when this replica comes
#: to the block, when all others have come, when the next block is staged, and when the block is done.
MARKS = 8
NO_MARKS = np.empty(0, np.int64)
#: Variables that are named.
_NAMED = 3


def marks_for(spans: SpanRecorder, blocks: int) -> Array:
    """Room for the times of so many blocks; none if nobody wants them."""
    return np.zeros(blocks * MARKS, np.int64) if spans.on else NO_MARKS


def block_names(partition: Partition, batch: GradientBatch, block: int) -> str:
    """The variables of a block, in words."""
    numbers = np.unique(partition.everyone_in(block)[:, 0]).tolist()
    names = ", ".join(batch.variables[i].name[:60] for i in numbers[:_NAMED])
    return f"{names} and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else names


def add_blocks(
    spans: SpanRecorder, partition: Partition, batch: GradientBatch, marks: Array, blocks: range
) -> None:
    """Adds the spans of blocks that have been run.

    Args:
        spans: what they are added to.
        partition: who updates what.
        batch: the step's gradients.
        marks: the times of all blocks of the step.
        blocks: those that have been run.
    """
    times = marks.reshape(-1, MARKS // 2, 2) @ np.array([1_000_000_000, 1])
    for block in blocks:
        came, together, staged, done = times[block].tolist()
        names = block_names(partition, batch, block)
        nbytes = int(partition.own_in(block)[:, 2].sum())
        spans.add(f"block {block}", came, done, variables=names, own_bytes=nbytes)
        if together - came > 1000:
            spans.add("waiting", came, together)
        if staged - together > 1000:
            spans.add("staging", together, staged)
        spans.add("summing and updating", staged, done)
