"""Applying a function of arrays to gradients, be they dense or sparse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import Tensor, as_array
from distopt.typing import Array

__all__ = ["map_values", "values_of"]


def values_of(gradient: Any) -> Array:
    """The gradient's array; of a sparse one the rows as given, duplicates not summed."""
    return as_array(gradient.values if isinstance(gradient, IndexedSlices) else gradient)


def map_values(function: Callable[[Array], Any], gradient: Any) -> Any:
    """A gradient of the same kind, with ``function`` applied to :func:`values_of` it."""
    with np.errstate(all="ignore"):
        values = Tensor.from_numpy(np.asarray(function(values_of(gradient))))
    if isinstance(gradient, IndexedSlices):
        return IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return values
