"""ArraySpecs: checks the dtypes and shapes of many arrays, and reads their addresses, in compiled code.

In Python, this takes most of a microsecond per array. A step of 2,000 variables takes 19.8 ms that way, and
11.0 ms with this file (``python -m benchmarks tricks``). The compiled loop reads the C structures of the
array objects, ``PyArrayObject_fields`` of NumPy's C API. Their layout is stable, because every compiled
extension depends on it. ``DISTOPT_ARRAY_SPECS=0`` uses Python instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from distopt.collectives.arrays import addresses_of
from distopt.comm.precompile import precompiled
from distopt.settings import settings
from distopt.typing import Array

__all__ = ["ArraySpecs"]

# Offsets in PyArrayObject_fields, whose fields after the PyObject header are:
# char *data; int nd; npy_intp *dimensions, *strides; PyObject *base; PyArray_Descr *descr; int flags
_DATA, _NDIM, _DIMENSIONS, _DTYPE, _FLAGS = (object.__basicsize__ + 8 * k for k in (0, 1, 2, 5, 6))
#: NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_ALIGNED.
_WANTED = 0x0001 | 0x0100
_INT = 0xFFFFFFFF


@intrinsic
def _load(typingctx: Any, address: Any = None) -> Any:  # noqa: ARG001
    """The 8 bytes at ``address`` as int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        return builder.load(builder.inttoptr(args[0], ir.IntType(64).as_pointer()), align=4)

    return types.int64(types.int64), codegen


@precompiled("boolean(int64[::1], int64[::1])", njit)
def _read(starts, expected):  # type: ignore[no-untyped-def]
    """Checks arrays, and replaces the addresses of the array objects by those of their data.

    Args:
        starts: ``[n]``, the addresses of array objects; overwritten.
        expected: 1-D, for each array: the address of its dtype, its number of axes, the length of each axis.

    Returns:
        whether all arrays are as expected, C-contiguous and aligned; if not, ``starts`` is of no use.
    """
    at = 0
    for k in range(starts.size):
        array = starts[k]
        ndim = expected[at + 1]
        if _load(array + _DTYPE) != expected[at] or _load(array + _NDIM) & _INT != ndim:
            return False
        if _load(array + _FLAGS) & _WANTED != _WANTED:
            return False
        shape = _load(array + _DIMENSIONS)
        at += 2
        for axis in range(ndim):
            if _load(shape + 8 * axis) != expected[at + axis]:
                return False
        at += ndim
        starts[k] = _load(array + _DATA)
    return True


class ArraySpecs:
    """The expected dtypes and shapes of a list of arrays.

    Args:
        like: arrays with these dtypes and shapes. If empty, :meth:`addresses_of` accepts only an empty list.
    """

    def __init__(self, like: Sequence[Array]) -> None:
        self.dtypes = tuple(array.dtype for array in like)  # alive, as _read compares addresses
        self._shapes = tuple(array.shape for array in like)
        self._compiled = settings().array_specs
        #: See _read.
        self._expected = np.array(
            [n for array in like for n in (id(array.dtype), array.ndim, *array.shape)], np.int64
        )

    def addresses_of(self, arrays: Sequence[Array]) -> Array | None:
        """The addresses of the arrays' data, ``[n]`` int64; None if one of the arrays is not as expected.

        Args:
            arrays: arrays of type ``numpy.ndarray`` itself. They must be C-contiguous and aligned.
        """
        if len(arrays) != len(self.dtypes):
            return None
        if not self._compiled:
            return addresses_of(arrays) if all(map(self._fits, arrays, self.dtypes, self._shapes)) else None
        addresses = np.fromiter(map(id, arrays), np.int64, len(arrays))
        return addresses if _read(addresses, self._expected) else None

    def _fits(self, array: Array, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
        plain = array.flags.c_contiguous and array.flags.aligned
        return array.dtype == dtype and array.shape == shape and plain
