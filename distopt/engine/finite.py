"""Which gradients hold NaN or infinity: each is read once, at the memory's speed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distopt.collectives import addresses_of
from distopt.typing import Array

__all__ = ["nonfinite"]

_COMPILED = frozenset(map(np.dtype, (np.float16, np.float32, np.float64)))


def nonfinite(arrays: Sequence[Array]) -> list[int]:
    """The places of those arrays that hold NaN or infinity, in order.

    Args:
        arrays: of any shapes and dtypes; integers are always finite.
    """
    from distopt.engine.exponents import mark  # compiled code, which takes time to load

    found: list[int] = []
    kinds: dict[int, list[int]] = {}
    for k, array in enumerate(arrays):
        if array.dtype in _COMPILED and array.size:
            kinds.setdefault(array.itemsize, []).append(k)
        elif array.dtype.kind in "fc" and not np.isfinite(array).all():
            found.append(k)
    for itemsize, places in kinds.items():
        own = [np.asarray(arrays[k], order="C") for k in places]
        sizes = np.array([arrays[k].size for k in places], np.int64)
        marks = np.empty(len(places), np.int64)
        mark(addresses_of(own), sizes, itemsize, marks)
        found += [places[k] for k in np.flatnonzero(marks)]
    return sorted(found)
