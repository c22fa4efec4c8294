"""Batch: what one step is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from distopt.core.nest import flatten, map_structure
from distopt.core.tensor import TensorLike, as_array
from distopt.typing import Array

__all__ = ["Batch", "as_arrays", "as_weights", "count_examples", "is_arrays", "take", "unpack"]


@dataclass(frozen=True)
class Batch:
    """One replica's share of a global batch.

    Attributes:
        x: the inputs: an array ``[local, ...]``, or lists, tuples and dicts of arrays.
        y: the labels in the same form, or None.
        sample_weight: ``[local]`` or the shape of the losses, or None.
        local: the number of examples of this replica; may be 0.
        size: the number of examples on all replicas.
    """

    x: Any
    y: Any
    sample_weight: Any
    local: int
    size: int


def unpack(item: Any) -> tuple[Any, Any, Any]:
    """``(x, y, sample_weight)`` of ``x``, ``(x,)``, ``(x, y)`` or ``(x, y, sample_weight)``; None if missing.

    Raises:
        ValueError: a tuple of another length.
    """
    if not isinstance(item, tuple):
        return item, None, None
    if not 1 <= len(item) <= 3:
        raise ValueError(
            f"a batch is x, (x, y) or (x, y, sample_weight); got a tuple of {len(item)} elements. "
            "Put several inputs into a list or dict."
        )
    x, y, sample_weight = (*item, None, None)[:3]
    return x, y, sample_weight


def as_arrays(data: Any) -> Any:
    """Everything in ``data`` as arrays of at least 2 axes: ``[n]`` becomes ``[n, 1]``, without a copy.

    A list or tuple of arrays is several inputs; a list of numbers, or of lists, is one.
    """
    if data is None:
        return None
    if isinstance(data, dict):
        return {key: as_arrays(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)) and data and all(_is_input(value) for value in data):
        return type(data)(as_arrays(value) for value in data)
    array: Array = as_array(data)
    return array[:, None] if array.ndim == 1 else array


def as_weights(data: Any) -> Any:
    """Sample weights as arrays, ``[n]`` or of the losses' shape; nested as the outputs are, or None.

    Where several outputs are listed, None among them is 1 for each example.
    """
    if isinstance(data, dict):
        data = {key: as_array(value) for key, value in data.items() if value is not None}
    elif isinstance(data, (list, tuple)) and any(value is None for value in data):
        given = [as_array(value) for value in data if value is not None]
        data = [np.ones(len(given[0]), np.float32) if w is None else as_array(w) for w in data if given]
    if data is None or (isinstance(data, (dict, list, tuple)) and not data):
        return None
    return map_structure(lambda array: array[:, 0] if array.shape[1:] == (1,) else array, as_arrays(data))


def _is_input(value: Any) -> bool:
    return isinstance(value, (np.ndarray, TensorLike)) and value.ndim >= 1


def is_arrays(x: Any, y: Any = None) -> bool:
    """Whether ``x`` is whole arrays rather than an iterable of batches (a list of tuples of arrays, say).

    An empty list is one of batches, unless labels stand beside it.
    """
    if isinstance(x, list) and (x or y is None) and all(isinstance(batch, tuple) for batch in x):
        leaves = [leaf for batch in x for leaf in flatten(batch) if leaf is not None]
        return not all(hasattr(leaf, "shape") for leaf in leaves)
    return hasattr(x, "shape") or isinstance(x, (list, tuple, dict))


def count_examples(parts: dict[str, Any]) -> int:
    """The common length of all arrays in ``parts``, named as the user knows them.

    Raises:
        ValueError: the lengths differ, an array has no axes, or there is no example.
    """
    lengths: dict[str, int] = {}
    for name, part in parts.items():
        leaves = [] if part is None else flatten(part)
        for i, leaf in enumerate(leaves):
            label = name if len(leaves) == 1 else f"{name}[{i}]"
            if leaf.ndim == 0:
                raise ValueError(
                    f"{label} must be an array of examples; got a single value. Batch single examples "
                    "first (keras.data.Dataset.batch)"
                )
            lengths[label] = len(leaf)
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"all data must have the same number of examples; {shown}")
    count = next(iter(lengths.values()), 0)
    if count == 0:
        raise ValueError(f"the data are empty ({', '.join(lengths) or 'x'} is empty)")
    return count


def take(data: Any, which: Any) -> Any:
    """Rows of every array; ``which`` is a slice or an array of row numbers."""
    if data is None:
        return None
    pick: Callable[[Any], Any] = lambda array: np.asarray(array[which])  # noqa: E731
    return pick(data) if isinstance(data, np.ndarray) else map_structure(pick, data)
