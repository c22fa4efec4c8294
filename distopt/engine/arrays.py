"""Many arrays at once: whether they are as expected, and where they lie, without asking one by one.

Asking an array for its dtype, shape and address costs most of a microsecond in Python. A compiled loop
reads the same from the arrays' headers, ``PyArrayObject_fields`` of NumPy's C API, whose layout is part
of every compiled extension and so stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from distopt.core.tensor import as_array
from distopt.typing import Array

__all__ = ["Flats", "Layout", "address_of"]


def address_of(array: Array) -> int:
    """Where the elements of an array begin."""
    return int(array.__array_interface__["data"][0])


class Layout:
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

    def fits(self, arrays: Sequence[Array]) -> Flats | None:
        """The arrays as one axis each; None if one is of another dtype or shape, or not contiguous.

        Args:
            arrays: as many as there are dtypes, of type ``numpy.ndarray`` itself.
        """
        starts = np.fromiter(map(id, arrays), np.int64, len(arrays))
        return Flats(arrays, starts) if _kernel()(starts, self._expected) else None


class Flats(Sequence[Array]):
    """C-contiguous arrays, each seen as one axis.

    Attributes:
        starts: ``[n]`` int64, their addresses.
        dtype: that of the first array.
    """

    def __init__(self, arrays: Sequence[Array], starts: Array) -> None:
        self._arrays = arrays
        self.starts = starts
        self.dtype = arrays[0].dtype if arrays else np.dtype(np.float32)

    @classmethod
    def of(cls, arrays: Sequence[Any]) -> Flats:
        """Flats of any arrays and tensors; those that are not contiguous are copied."""
        flat = [as_array(array).ravel() for array in arrays]
        return cls(flat, np.array(list(map(address_of, flat)), np.int64))

    def __len__(self) -> int:
        return len(self._arrays)

    def __getitem__(self, index: Any) -> Any:
        return self._arrays[index].reshape(-1)


@cache
def _kernel() -> Callable[[Array, Array], bool]:
    from distopt.engine.headers import read

    return read  # type: ignore[no-any-return]
