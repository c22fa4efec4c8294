"""PiecewiseConstantDecay: a constant rate between boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distopt.core.checks import as_sequence
from distopt.core.tensor import Tensor, as_array
from distopt.optimizers.schedules.schedule import LearningRateSchedule, rate_array, tensor_of

__all__ = ["PiecewiseConstantDecay"]


class PiecewiseConstantDecay(LearningRateSchedule):
    """Returns ``values[k]``, where k is the number of boundaries below the step (TF 2.4).

    At a boundary, the value before it still applies.

    Args:
        boundaries: n increasing step numbers; they are cast to the dtype of the step.
        values: n + 1 rates; the result has the dtype of the first one.
        name: a label.

    Raises:
        ValueError: ``values`` does not have exactly one element more than ``boundaries``.

    >>> schedule = PiecewiseConstantDecay([10, 20], [1.0, 0.5, 0.25])
    >>> schedule([0, 10, 11, 21]).numpy().tolist()
    [1.0, 1.0, 0.5, 0.25]
    """

    def __init__(self, boundaries: Sequence[Any], values: Sequence[Any], name: str | None = None) -> None:
        super().__init__()
        boundaries = as_sequence(boundaries, "boundaries")
        values = as_sequence(values, "values")
        if len(boundaries) != len(values) - 1:
            raise ValueError(
                "The length of boundaries should be 1 less than the length of values; "
                f"got {len(boundaries)} boundaries and {len(values)} values"
            )
        self.boundaries = boundaries
        self.values = values
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        """Returns the rate at ``step``.

        Raises:
            IndexError: there are no boundaries.
        """
        if len(self.boundaries) == 0:
            raise IndexError("PiecewiseConstantDecay needs at least one boundary to be called; it has none")
        now = as_array(step)
        dtype = rate_array(self.values[0]).dtype
        passed = sum((now > as_array(b).astype(now.dtype)).astype(np.int64) for b in self.boundaries)
        rates = np.array([as_array(v) for v in self.values], dtype)
        return tensor_of(rates[passed], dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {"boundaries": self.boundaries, "values": self.values, "name": self.name}
