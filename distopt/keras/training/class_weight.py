"""class_weight: a weight for each example, by its label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from distopt.core.checks import shown
from distopt.core.nest import flatten
from distopt.core.numbers import as_scalar
from distopt.keras.data.batch import as_arrays, as_weights, is_arrays, unpack
from distopt.typing import Array

__all__ = ["weigh_classes"]

_NO_LABELS = "class_weight needs labels: y is None"


def weigh_classes(x: Any, y: Any, sample_weight: Any, weights: Mapping[int, float]) -> tuple[Any, Any]:
    """``(x, sample_weight)`` with the weights of the examples' classes multiplied in.

    Args:
        x: arrays, or an iterable of batches with labels, which comes back weighted.
        y: class numbers or one-hot labels; None for an iterable.
        sample_weight: weights to multiply with, or None.
        weights: class number -> weight; every class that occurs must be there.

    Raises:
        ValueError: no dict of numbers, a class without a weight, or labels that are not one class for each
            example of one output.
    """
    known = _checked(weights)
    if y is not None:
        return x, _weights(y, sample_weight, known)
    if is_arrays(x):
        raise ValueError(_NO_LABELS)
    weighted = _Weighted(x, known)
    return iter(weighted) if iter(x) is x else weighted, sample_weight


def _checked(weights: Any) -> dict[int, float]:
    if not isinstance(weights, Mapping):
        hint = "dict(enumerate(class_weight))" if hasattr(weights, "__len__") else "{0: 1.0, 1: 2.0}"
        if isinstance(weights, str):
            hint = f"{hint} of what sklearn.utils.class_weight.compute_class_weight({weights!r}, ...) returns"
        raise ValueError(
            f"class_weight must be a dict of class number -> weight; got {shown(weights)}: give {hint}"
        )
    found = {}
    for key, value in weights.items():
        if not isinstance(key, (int, float, np.integer, np.floating)) or key != key // 1:
            raise ValueError(
                f"class_weight must be a dict of class number -> weight; got the class {shown(key)}"
            )
        found[int(key)] = as_scalar(value, f"class_weight[{key}]", finite=True)
    return found


def _weights(y: Any, sample_weight: Any, weights: dict[int, float]) -> Array:
    if y is None:
        raise ValueError(_NO_LABELS)
    leaves = flatten(as_arrays(y))
    if len(leaves) != 1:
        raise ValueError(
            "class_weight works only for models with one output, where y is an array; got "
            f"{shown(type(y).__name__)} of {len(leaves)} arrays"
        )
    present, place = np.unique(_classes(leaves[0]), return_inverse=True)
    missing = [int(c) for c in present if int(c) not in weights]
    if missing:
        raise ValueError(f"class_weight has no weight for the classes {missing} of the labels")
    found: Array = np.array([weights[int(c)] for c in present], np.float32)[place.reshape(-1)]
    if sample_weight is None:
        return found
    (own,) = flatten(as_weights(sample_weight))
    if len(own) != len(found):
        raise ValueError(f"sample_weight has {len(own)} examples, y has {len(found)}")
    both: Array = found.reshape(-1, *[1] * (own.ndim - 1)) * own
    return both


def _classes(labels: Array) -> Array:
    """The class number of each example, of ``[n, 1]`` class numbers or ``[n, classes]`` one-hot labels."""
    if labels.ndim > 2:
        raise ValueError(
            f"class_weight takes one class for each example; got labels of shape [batch, "
            f"{', '.join(map(str, labels.shape[1:]))}]: give the time steps weights by sample_weight"
        )
    one_hot = labels.shape[1] > 1
    sums = labels.sum(axis=1, dtype=float) if one_hot else np.ones(1)
    if one_hot and not (np.all(labels >= 0) and np.all(np.abs(sums - 1) < 1e-3)):
        raise ValueError(
            f"class_weight takes class numbers [batch] or one-hot labels [batch, classes]; got labels of "
            f"shape [batch, {labels.shape[1]}] whose rows do not sum to 1: give weights by sample_weight"
        )
    classes: Array = labels.argmax(axis=1) if one_hot else labels.reshape(-1)
    if classes.dtype.kind not in "biu" and not np.array_equal(classes, np.floor(classes)):
        raise ValueError("class_weight needs labels that are class numbers; got some that are not whole")
    return classes.astype(np.int64)


class _Weighted:
    """An iterable of batches with the class weights in them."""

    def __init__(self, batches: Any, weights: dict[int, float]) -> None:
        self._batches = batches
        self._weights = weights
        if hasattr(batches, "get_state"):  # so that a backup knows where its reading is
            self.get_state, self.set_state = batches.get_state, batches.set_state

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._batches:
            x, y, sample_weight = unpack(batch)
            yield x, y, _weights(y, sample_weight, self._weights)
