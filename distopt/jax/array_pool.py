"""ArrayPool: JAX arrays with copies of values, in memory that is reused after JAX has released it."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from distopt.typing import Array

__all__ = ["ArrayPool"]

#: JAX takes over NumPy's memory without a copy only where it begins at a multiple of so many bytes.
_ALIGN = 64


class ArrayPool:
    """The memory of one optimizer's arrays.

    Allocating memory from the system in each step takes longer than filling it.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[Array]] = {}  # by size in bytes

    def copies(self, values: Sequence[Array], devices: Sequence[Any]) -> list[jax.Array]:
        """Returns arrays with copies of these values.

        Args:
            values: contiguous.
            devices: for each the device or sharding that it is bound to, or None.
        """
        copied = [self._copy(value) for value in values]
        if all(device is None for device in devices):
            return list(jax.device_put(copied, may_alias=True))
        return [jax.device_put(c, device, may_alias=True) for c, device in zip(copied, devices, strict=True)]

    def _copy(self, value: Array) -> Array:
        free = self._free.setdefault(value.nbytes, [])
        memory = free.pop() if free else _aligned(value.nbytes)
        lent = _Lent(memory)
        # NumPy's views refer to what owns their memory: that is this object, for as long as any is left.
        weakref.finalize(lent, free.append, memory).atexit = False
        array: Array = np.asarray(lent).view(value.dtype).reshape(value.shape)
        np.copyto(array, value)
        return array


class _Lent:
    """Memory that somebody uses, as NumPy takes it."""

    __slots__ = ("__array_interface__", "__weakref__")

    def __init__(self, memory: Array) -> None:
        self.__array_interface__ = memory.__array_interface__


def _aligned(nbytes: int) -> Array:
    memory = np.empty(nbytes + _ALIGN, np.uint8)
    start = -memory.ctypes.data % _ALIGN
    return memory[start : start + nbytes]
