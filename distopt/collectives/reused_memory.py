"""ReusedMemory: buffers that are allocated once and reused, if each block requests the same sequence."""

from __future__ import annotations

import numpy as np

from distopt.typing import Array

__all__ = ["ReusedMemory"]


class ReusedMemory:
    """The buffers of one block. Fresh memory from the kernel would take as long as the messages."""

    def __init__(self) -> None:
        self._buffers: list[Array] = []
        self._given = 0

    def begin(self) -> None:
        """Makes all buffers available again."""
        self._given = 0

    def empty(self, nbytes: int) -> Array:
        """The next buffer: ``nbytes`` bytes, 1-D uint8, uninitialized."""
        if self._given == len(self._buffers):
            self._buffers.append(np.empty(nbytes, np.uint8))
        elif self._buffers[self._given].size < nbytes:
            self._buffers[self._given] = np.empty(nbytes, np.uint8)
        self._given += 1
        return self._buffers[self._given - 1][:nbytes]
