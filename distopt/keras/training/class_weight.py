"""class_weight: a weight for each example, by its label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from distopt.core.tensor import as_array
from distopt.keras.data.batch import unpack
from distopt.typing import Array

__all__ = ["weigh_classes"]


def weigh_classes(x: Any, y: Any, sample_weight: Any, weights: Mapping[int, float]) -> tuple[Any, Any]:
    """``(x, sample_weight)`` with the weights of the examples' classes multiplied in.

    Args:
        x: arrays, or an iterable of batches with labels, which comes back weighted.
        y: class numbers or one-hot labels; None for an iterable.
        sample_weight: weights to multiply with, or None.
        weights: class number -> weight; every class that occurs must be there.

    Raises:
        ValueError: a class without a weight, or labels of several outputs.
    """
    if y is not None:
        return x, _weights(y, sample_weight, weights)
    weighted = _Weighted(x, weights)
    return iter(weighted) if iter(x) is x else weighted, sample_weight


def _weights(y: Any, sample_weight: Any, weights: Mapping[int, float]) -> Array:
    if isinstance(y, dict):
        raise ValueError("class_weight works for models of one output, with y an array")
    labels = as_array(y)
    one_hot = labels.ndim > 1 and labels.shape[-1] > 1
    classes = (labels.argmax(axis=-1) if one_hot else labels.reshape(-1)).astype(np.int64)
    present, place = np.unique(classes, return_inverse=True)
    missing = [int(c) for c in present if int(c) not in weights]
    if missing:
        raise ValueError(f"class_weight has no weight for the classes {missing} of the labels")
    found = np.array([weights[int(c)] for c in present], np.float32)[place.reshape(-1)]
    return found if sample_weight is None else found * as_array(sample_weight).reshape(len(found))


class _Weighted:
    """An iterable of batches with the class weights in them."""

    def __init__(self, batches: Any, weights: Mapping[int, float]) -> None:
        self._batches = batches
        self._weights = weights
        if hasattr(batches, "get_state"):  # so that a backup tells where its reading stands
            self.get_state, self.set_state = batches.get_state, batches.set_state

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._batches:
            x, y, sample_weight = unpack(batch)
            yield x, y, _weights(y, sample_weight, self._weights)
