"""Where arrays lie, and whether they are as expected, for many at once.

Asking an array for its dtype, shape and address costs most of a microsecond in Python. A compiled loop
reads the same from the arrays' own structures: see :mod:`distopt.collectives.ndarray_struct`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from distopt.typing import Array

__all__ = ["ArraySpecs", "address_of", "addresses_of"]


def address_of(array: Array) -> int:
    """Where the elements of an array begin."""
    return int(array.__array_interface__["data"][0])


def addresses_of(arrays: Sequence[Array]) -> Array:
    """Where the elements of each array begin, ``[n]`` int64."""
    return np.array(list(map(address_of, arrays)), np.int64)


class ArraySpecs:
    """Dtypes and shapes that arrays are to have.

    Args:
        like: arrays that have them.
    """

    def __init__(self, like: Sequence[Array]) -> None:
        self.dtypes = tuple(array.dtype for array in like)  # kept, since they are known by address
        #: For each array its dtype's address, its number of axes and their lengths.
        self._expected = np.array(
            [n for array in like for n in (id(array.dtype), array.ndim, *array.shape)], np.int64
        )

    def addresses_of(self, arrays: Sequence[Array]) -> Array | None:
        """The addresses of the arrays' data; None if one is of another dtype or shape, or not contiguous.

        Args:
            arrays: as many as there are dtypes, of type ``numpy.ndarray`` itself.
        """
        addresses = np.fromiter(map(id, arrays), np.int64, len(arrays))
        return addresses if _read()(addresses, self._expected) else None


@cache
def _read() -> Callable[[Array, Array], bool]:
    from distopt.collectives.ndarray_struct import read

    return read  # type: ignore[no-any-return]
