"""ResultMemory: memory for results, used again once nobody holds the last one any more.

To take new memory of the system takes as long as to fill it.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from distopt.typing import Array

__all__ = ["ResultMemory"]


class ResultMemory:
    """Arrays that results are views of; as many of each size as are in use at a time."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[int, np.dtype[Any]], list[Array]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> ResultMemory:
        return ResultMemory()

    def take(self, size: int, dtype: np.dtype[Any]) -> Array:
        """``[size]`` with any contents."""
        arrays = self._arrays.setdefault((size, dtype), [])
        for array in arrays:
            if sys.getrefcount(array) == 3:  # the list, the loop and the call; a view would be another
                return array[:]
        arrays.append(np.empty(size, dtype))
        return arrays[-1][:]
