"""BlockSpans: trace spans of a step's blocks, from times that the compiled loop records."""

from __future__ import annotations

import numpy as np

from distopt.collectives import Partition
from distopt.comm import Span, SpanRecorder
from distopt.engine.batch import GradientBatch
from distopt.typing import Array

__all__ = ["NO_MARKS", "BlockSpans"]

#: int64 numbers per block: four times, each as seconds and nanoseconds. They are when this replica arrives at
#: the block, when all have arrived, when the next block is staged, and when the block is finished.
MARKS = 8
#: For runs without a trace.
NO_MARKS = np.empty(0, np.int64)
#: The most variables to name, and the most characters of a name.
_NAMED, _LONGEST = 3, 60
#: Shorter spans within a block are omitted, in nanoseconds.
_SHORT = 1000


class BlockSpans:
    """Adds the spans of an executor's blocks to the trace.

    Args:
        spans: the recorder of the trace.
        partition: the blocks and shards.
    """

    def __init__(self, spans: SpanRecorder, partition: Partition) -> None:
        self.spans, self._partition = spans, partition
        self._names: dict[int, str] = {}

    def marks(self, batch: GradientBatch, blocks: range) -> Array:
        """Memory for the times of blocks that are about to run; the recorder later converts it to spans.

        Returns:
            ``[blocks of the partition * MARKS]`` int64, zero.
        """
        marks = np.zeros(self._partition.blocks * MARKS, np.int64)
        if blocks[-1] not in self._names:
            for block in blocks:
                self.names(batch, block)
        self.spans.add(("later", self._spans_of, (marks, blocks)))
        return marks

    def names(self, batch: GradientBatch, block: int) -> str:
        """The names of a block's variables as text, cached: they are the same in each step."""
        if block not in self._names:
            numbers = np.unique(self._partition.everyone_in(block)[:, 0]).tolist()
            shown = ", ".join(batch.variables[i].name[:_LONGEST] for i in numbers[:_NAMED])
            more = len(numbers) - _NAMED
            self._names[block] = f"{shown} and {more} more" if more > 0 else shown
        return self._names[block]

    def _spans_of(self, marks: Array, blocks: range) -> list[Span]:
        times = marks.reshape(-1, MARKS // 2, 2) @ np.array([1_000_000_000, 1])
        found: list[Span] = []
        for block in blocks:
            arrived, all_arrived, staged, done = times[block].tolist()
            if not done:
                break  # an error ended the step
            nbytes = int(self._partition.own_in(block)[:, 2].sum())
            about = {"variables": self._names[block], "own_bytes": nbytes}
            found.append((f"block {block}", arrived, done, about))
            parts = [("waiting", arrived, all_arrived), ("staging", all_arrived, staged)]
            found += [(name, begin, end, {}) for name, begin, end in parts if end - begin > _SHORT]
            found.append(("summing and updating", staged, done, {}))
        return found
