"""Applies functions of arrays to gradients, dense or sparse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import Tensor, as_array
from distopt.typing import Array

__all__ = ["map_values", "values_of"]


def values_of(gradient: Any) -> Array:
    """The array of a gradient. For a sparse one these are the rows as given; duplicates are not summed."""
    return as_array(gradient.values if isinstance(gradient, IndexedSlices) else gradient)


def map_values(function: Callable[[Array], Any], gradient: Any) -> Any:
    """Applies ``function`` to :func:`values_of` the gradient and returns a gradient of the same kind."""
    with np.errstate(all="ignore"):
        values = Tensor.from_numpy(np.asarray(function(values_of(gradient))))
    if isinstance(gradient, IndexedSlices):
        return IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return values
