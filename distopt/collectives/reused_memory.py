"""ReusedMemory: memory that is asked for in the same order again and again."""

from __future__ import annotations

import numpy as np

from distopt.typing import Array

__all__ = ["ReusedMemory"]


class ReusedMemory:
    """One block's memory: new memory costs the kernel as much time as messages do."""

    def __init__(self) -> None:
        self._buffers: list[Array] = []
        self._given = 0

    def begin(self) -> None:
        """All of it is free."""
        self._given = 0

    def empty(self, nbytes: int) -> Array:
        """So many bytes, 1-D, with any contents."""
        if self._given == len(self._buffers):
            self._buffers.append(np.empty(nbytes, np.uint8))
        elif self._buffers[self._given].size < nbytes:
            self._buffers[self._given] = np.empty(nbytes, np.uint8)
        self._given += 1
        return self._buffers[self._given - 1][:nbytes]
