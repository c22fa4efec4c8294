"""Where arrays lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distopt.typing import Array

__all__ = ["address_of", "addresses_of"]


def address_of(array: Array) -> int:
    """Where the elements of an array begin."""
    return int(array.__array_interface__["data"][0])


def addresses_of(arrays: Sequence[Array]) -> Array:
    """Where the elements of each array begin, ``[n]`` int64."""
    return np.array(list(map(address_of, arrays)), np.int64)
