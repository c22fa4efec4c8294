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

__all__ = ["Flats", "Layout"]

#: Where an object's own fields begin: after Python's.
_FIRST = object.__basicsize__
#: NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_ALIGNED.
_FLAGS = 0x0001 | 0x0100


class Layout:
    """Dtypes and shapes that arrays are to have.

    Args:
        like: arrays that have them.
    """

    def __init__(self, like: Sequence[Array]) -> None:
        self.dtypes = tuple(array.dtype for array in like)  # kept, since they are known by address
        self._kinds = np.array([id(dtype) for dtype in self.dtypes], np.int64)
        self._ndims = np.array([array.ndim for array in like], np.int64)
        self._lengths = np.array([n for array in like for n in array.shape], np.int64)

    def fits(self, arrays: Sequence[Array]) -> Flats | None:
        """The arrays as one axis each; None if one is of another dtype or shape, or not contiguous.

        Args:
            arrays: as many as there are dtypes, of type ``numpy.ndarray`` itself.
        """
        starts = np.empty(len(arrays), np.int64)
        objects = np.fromiter(map(id, arrays), np.int64, len(arrays))
        fit = _kernel()(objects, self._kinds, self._ndims, self._lengths, starts)
        return Flats(arrays, starts) if fit else None


class Flats(Sequence[Array]):
    """C-contiguous arrays, each seen as one axis.

    Attributes:
        starts: ``[n]`` int64, their addresses.
    """

    def __init__(self, arrays: Sequence[Array], starts: Array) -> None:
        self._arrays = arrays
        self.starts = starts

    @classmethod
    def of(cls, arrays: Sequence[Any]) -> Flats:
        """Flats of any arrays and tensors; those that are not contiguous are copied."""
        flat = [as_array(array).ravel() for array in arrays]
        return cls(flat, np.array([a.__array_interface__["data"][0] for a in flat], np.int64))

    def __len__(self) -> int:
        return len(self._arrays)

    def __getitem__(self, index: Any) -> Any:
        return self._arrays[index].reshape(-1)

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the first array."""
        return self._arrays[0].dtype


@cache
def _kernel() -> Callable[[Array, Array, Array, Array, Array], bool]:
    import numba

    numbers = numba.types.Array(numba.int64, 1, "C")
    signature = (numbers,) * 5
    try:
        kernel = _reader(numba.njit(cache=True))
        kernel.compile(signature)
    except Exception:
        # A cache that cannot be written or read is no error.
        kernel = _reader(numba.njit)
        kernel.compile(signature)
    kernel.disable_compile()
    return kernel  # type: ignore[no-any-return]


def _reader(jit: Callable[[Any], Any]) -> Any:
    load = _load()
    # char *data; int nd; npy_intp *dimensions, *strides; PyObject *base; PyArray_Descr *descr; int flags
    data, nd, dimensions, descr, flags = (_FIRST + 8 * k for k in (0, 1, 2, 5, 6))
    wanted, low = _FLAGS, 0xFFFFFFFF

    @jit
    def kernel(objects, kinds, ndims, lengths, starts):  # type: ignore[no-untyped-def]
        at = 0
        for k in range(objects.size):
            array = objects[k]
            if load(array + descr) != kinds[k] or load(array + nd) & low != ndims[k]:
                return False
            if load(array + flags) & wanted != wanted:
                return False
            shape = load(array + dimensions)
            for axis in range(ndims[k]):
                if load(shape + 8 * axis) != lengths[at + axis]:
                    return False
            at += ndims[k]
            starts[k] = load(array + data)
        return True

    return kernel


@cache
def _load() -> Any:
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def load(context, address):  # type: ignore[no-untyped-def]  # noqa: ARG001
        """The 8 bytes at ``address`` as int64."""

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]  # noqa: ARG001
            return builder.load(builder.inttoptr(args[0], ir.IntType(64).as_pointer()), align=4)

        return types.int64(types.int64), codegen

    return load
