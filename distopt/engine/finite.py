"""Finds the gradients that contain NaN or infinity, reading each once."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import numpy as np

from distopt.collectives import addresses_of
from distopt.core.dtypes import is_bfloat16, kind_of
from distopt.typing import Array

__all__ = ["nonfinite"]

#: Masks of the exponent bits of IEEE floats, by itemsize; and of bfloat16.
_EXPONENTS = MappingProxyType({2: 0x7C00, 4: 0x7F800000, 8: 0x7FF0000000000000})
_BFLOAT16 = 0x7F80


def nonfinite(arrays: Sequence[Array]) -> list[int]:
    """The indices of the arrays that contain NaN or infinity, in order.

    Args:
        arrays: arrays of any shapes and dtypes; integers are always finite.
    """
    from distopt.engine.exponents import mark  # compiled code, which takes time to load

    found: list[int] = []
    kinds: dict[tuple[int, int], list[int]] = {}
    for k, array in enumerate(arrays):
        itemsize = array.itemsize
        if kind_of(array.dtype) == "f" and itemsize in _EXPONENTS and array.size and array.dtype.isnative:
            exponent = _BFLOAT16 if is_bfloat16(array.dtype) else _EXPONENTS[itemsize]
            kinds.setdefault((itemsize, exponent), []).append(k)
        elif array.dtype.kind in "fc" and not np.isfinite(array).all():
            found.append(k)
    for (itemsize, exponent), places in kinds.items():
        own = [np.asarray(arrays[k], order="C") for k in places]
        sizes = np.array([arrays[k].size for k in places], np.int64)
        marks = np.empty(len(places), np.int64)
        mark(addresses_of(own), sizes, itemsize, exponent, marks)
        found += [places[k] for k in np.flatnonzero(marks)]
    return sorted(found)
