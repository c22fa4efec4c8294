"""Clipping the norm of each gradient alone."""

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
    """Scales each gradient whose l2 norm is above ``limit`` down to that norm: ``g * c / max(norm, c)``.

    An infinite element becomes NaN and makes all others of its gradient 0. Of a sparse gradient the
    norm is that of the rows as given, before rows of equal index are summed.

    Source: ``tf.clip_by_norm``.
    """

    limit: float

    def __post_init__(self) -> None:
        as_clip(self.limit, "the norm's limit")

    def __call__(self, grads_and_vars: GradsAndVars) -> list[tuple[Any, Any]]:
        """The pairs with clipped gradients."""
        return [(map_values(self._clip, gradient), variable) for gradient, variable in grads_and_vars]

    def _clip(self, values: Array) -> Array:
        flat = np.ascontiguousarray(values).reshape(-1)
        return clip_norm(values, norms.sum_of_pieces([norms.sums_of_squares(flat)]), self.limit)
