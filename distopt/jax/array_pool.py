"""ArrayPool: copies values to JAX arrays, and reuses the memory of arrays that JAX has released."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from distopt.typing import Array

__all__ = ["ArrayPool"]

#: JAX uses NumPy's memory without a copy only if its address is a multiple of this many bytes.
_ALIGN = 64


class ArrayPool:
    """The memory of the arrays that one optimizer returns.

    It exists because getting new memory from the system in each step takes longer than filling it.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[Array]] = {}  # by size in bytes

    def copies(self, values: Sequence[Array], devices: Sequence[Any]) -> list[jax.Array]:
        """Returns JAX arrays with copies of ``values``.

        Args:
            values: contiguous arrays.
            devices: for each value the device or sharding to commit the JAX array to, or None.
        """
        copied = [self._copy(value) for value in values]
        if all(device is None for device in devices):
            return list(jax.device_put(copied, may_alias=True))
        return [jax.device_put(c, device, may_alias=True) for c, device in zip(copied, devices, strict=True)]

    def _copy(self, value: Array) -> Array:
        free = self._free.setdefault(value.nbytes, [])
        memory = free.pop() if free else _aligned(value.nbytes)
        owner = _Owner(memory)
        # All views refer to the owner. When it is garbage collected, nobody uses the memory any more.
        weakref.finalize(owner, free.append, memory).atexit = False
        array: Array = np.asarray(owner).view(value.dtype).reshape(value.shape)
        np.copyto(array, value)
        return array


class _Owner:
    """The base object of all NumPy views of a piece of memory; it lives as long as any of them."""

    __slots__ = ("__array_interface__", "__weakref__")

    def __init__(self, memory: Array) -> None:
        self.__array_interface__ = memory.__array_interface__


def _aligned(nbytes: int) -> Array:
    memory = np.empty(nbytes + _ALIGN, np.uint8)
    start = -memory.ctypes.data % _ALIGN
    return memory[start : start + nbytes]
