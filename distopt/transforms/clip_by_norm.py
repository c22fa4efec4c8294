"""Clips the norm of each gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from distopt.core.numbers import as_clip
from distopt.engine import norms
from distopt.engine.clip import clip_norm
from distopt.transforms.elementwise import map_values
from distopt.typing import Array, GradsAndVars

__all__ = ["ClipByNorm"]


@dataclass(frozen=True)
class ClipByNorm:
    """Scales each gradient whose l2 norm is above ``limit`` to that norm: ``g * limit / max(norm, limit)``.

    An infinite element becomes NaN, and all other elements of its gradient become 0. The rows of a sparse
    gradient count as given, before rows with equal indices are summed.

    Source: ``tf.clip_by_norm``.
    """

    limit: float

    def __post_init__(self) -> None:
        as_clip(self.limit, "the norm's limit")

    def __call__(self, grads_and_vars: GradsAndVars) -> list[tuple[Any, Any]]:
        """Returns the pairs with clipped gradients."""
        return [(map_values(self._clip, gradient), variable) for gradient, variable in grads_and_vars]

    def _clip(self, values: Array) -> Array:
        flat = np.ascontiguousarray(values).reshape(-1)
        return clip_norm(values, norms.sum_of_pieces([norms.sums_of_squares(flat)]), self.limit)
