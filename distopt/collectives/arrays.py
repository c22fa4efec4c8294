"""The addresses of arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distopt.typing import Array

__all__ = ["address_of", "addresses_of"]


def address_of(array: Array) -> int:
    """The address of an array's first element."""
    return int(array.__array_interface__["data"][0])


def addresses_of(arrays: Sequence[Array]) -> Array:
    """The addresses of the arrays' first elements, ``[n]`` int64."""
    return np.array(list(map(address_of, arrays)), np.int64)
