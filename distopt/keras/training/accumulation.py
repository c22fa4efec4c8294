"""Gradients added up over several batches before they are applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distopt.core import IndexedSlices, Variable
from distopt.core.checks import as_count
from distopt.core.tensor import as_array

__all__ = ["GradientAccumulator"]


class GradientAccumulator:
    """Joins ``steps`` batches to one, each weighing by its number of examples.

    Args:
        steps: the number of batches to an update.

    Raises:
        ValueError: ``steps`` is below 1.
        TypeError: it is no whole number.
    """

    def __init__(self, steps: int) -> None:
        self.steps = as_count(steps, "steps_per_update")
        self._sums: dict[Variable, Any] = {}
        self._examples = 0
        self._batches = 0

    def add(self, gradients: Sequence[Any], variables: Sequence[Variable], size: int) -> bool:
        """Takes in this replica's gradients of a batch's mean loss.

        Args:
            gradients: arrays, tensors, IndexedSlices or None.
            variables: what they belong to.
            size: the examples of the batch, on all replicas.

        Returns:
            Whether an update is due.
        """
        for gradient, variable in zip(gradients, variables, strict=True):
            if gradient is not None:
                self._sums[variable] = _sum(self._sums.get(variable), _scaled(gradient, size))
        self._examples += size
        self._batches += 1
        return self._batches >= self.steps

    @property
    def pending(self) -> bool:
        """Whether there are gradients that wait for further batches."""
        return self._batches > 0

    def take(self) -> list[tuple[Any, Variable]]:
        """Pairs for ``apply_gradients``: the gradients of the mean over all; then resets. May be empty."""
        pairs = [(_scaled(total, 1 / self._examples, v.dtype), v) for v, total in self._sums.items()]
        self._sums, self._examples, self._batches = {}, 0, 0
        return pairs


def _scaled(gradient: Any, factor: float, dtype: Any = None) -> Any:
    """The gradient times ``factor``, in ``dtype``; by default float16 becomes float32, for sums."""
    values = as_array(gradient.values if isinstance(gradient, IndexedSlices) else gradient)
    wide = values.astype(np.result_type(values.dtype, np.float32), copy=False)
    scaled = (wide * wide.dtype.type(factor)).astype(dtype or wide.dtype, copy=False)
    if isinstance(gradient, IndexedSlices):
        return IndexedSlices(scaled, gradient.indices, gradient.dense_shape)
    return scaled


def _sum(old: Any, new: Any) -> Any:
    if old is None:
        return new
    if isinstance(old, IndexedSlices) and isinstance(new, IndexedSlices):
        values = np.concatenate([as_array(old.values), as_array(new.values)])
        indices = np.concatenate([as_array(old.indices), as_array(new.indices)])
        return IndexedSlices(values, indices, old.dense_shape)
    return np.asarray(old) + np.asarray(new)
