"""SparseResults: results that are zero but for a few elements, in memory that is used again.

Only what was not zero in the last result is cleared: to clear all of it takes nearly as long as to find the
elements.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from distopt.typing import Array

__all__ = ["SparseResults"]


class SparseResults:
    """Arrays that results are views of; as many of each size as are in use at a time."""

    def __init__(self) -> None:
        #: Each with the places where it may not be zero.
        self._arrays: dict[tuple[int, np.dtype[Any]], list[tuple[Array, list[Array]]]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> SparseResults:
        return SparseResults()

    def make(self, size: int, dtype: np.dtype[Any], rows: Sequence[tuple[Array, Array]]) -> Array:
        """The sum of rows, ``[size]``, to be read only.

        Args:
            size: the number of elements.
            dtype: float32 or float64.
            rows: for each int32 places, which are distinct, and the values there.
        """
        from distopt.engine.largest import add_at, zero_at  # compiled code, which takes time to load

        array, places = self._free(size, dtype)
        for where in places:
            zero_at(array, where)
        places[:] = [where for where, _ in rows]
        for where, values in rows:
            add_at(array, where, values)
        result = array[:]
        result.flags.writeable = False  # nobody else puts anything where it would not be cleared
        return result

    def _free(self, size: int, dtype: np.dtype[Any]) -> tuple[Array, list[Array]]:
        """Memory that nobody holds a view of."""
        arrays = self._arrays.setdefault((size, dtype), [])
        for array, places in arrays:
            if sys.getrefcount(array) == 3:  # the list, the loop and the call; a view would be another
                return array, places
        arrays.append((np.zeros(size, dtype), []))
        return arrays[-1]
