"""Tuples of arrays in compiled code, taken apart while it is compiled: one loop for any number of slots.

A tuple that is indexed in a loop is not vectorized. These functions call themselves on ever shorter tuples
instead, so what is left for the compiler is one instruction an array.
"""

from __future__ import annotations

from typing import Any

from numba.extending import overload

from distopt.collectives.pointers import array_at

__all__ = ["arrays_at", "elements", "store"]


def arrays_at(addresses: Any, like: Any, shift: Any, size: Any, dtype: Any) -> Any:
    """As many 1-D arrays as ``like`` has elements, each ``shift`` bytes after its address."""


def elements(arrays: Any, i: Any) -> Any:
    """Element ``i`` of each array, as a tuple."""


def store(arrays: Any, i: Any, values: Any) -> Any:
    """Writes the values to element ``i`` of the arrays."""


@overload(arrays_at)
def _arrays_at(addresses, like, shift, size, dtype):  # type: ignore[no-untyped-def]  # noqa: ARG001
    if len(like) == 0:
        return lambda addresses, like, shift, size, dtype: ()  # noqa: ARG005

    def build(addresses, like, shift, size, dtype):  # type: ignore[no-untyped-def]
        last = array_at(addresses[len(like) - 1] + shift, size, dtype)
        return (*arrays_at(addresses, like[1:], shift, size, dtype), last)

    return build


@overload(elements)
def _elements(arrays, i):  # type: ignore[no-untyped-def]  # noqa: ARG001
    if len(arrays) == 0:
        return lambda arrays, i: ()  # noqa: ARG005
    return lambda arrays, i: (arrays[0][i], *elements(arrays[1:], i))


@overload(store)
def _store(arrays, i, values):  # type: ignore[no-untyped-def]  # noqa: ARG001
    if len(arrays) == 0:
        return lambda arrays, i, values: None  # noqa: ARG005

    def write(arrays, i, values):  # type: ignore[no-untyped-def]
        arrays[0][i] = values[0]
        store(arrays[1:], i, values[1:])

    return write
