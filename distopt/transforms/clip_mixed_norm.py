"""Clips the norm of all gradients together, for mixed dtypes, as PyTorch and optax do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from distopt.core.numbers import as_clip
from distopt.engine import norms
from distopt.engine.clip import global_scale
from distopt.transforms.elementwise import map_values, values_of
from distopt.typing import Array, GradsAndVars

__all__ = ["ClipMixedNorm"]


@dataclass(frozen=True)
class ClipMixedNorm:
    """Multiplies all gradients by ``min(1, limit / (norm + margin))``.

    Source: ``torch.nn.utils.clip_grad_norm_``, where the margin is 1e-6; ``optax.clip_by_global_norm``.
    """

    limit: float
    margin: float = 0.0

    def __post_init__(self) -> None:
        as_clip(self.limit, "the norm's limit")

    def __call__(self, grads_and_vars: GradsAndVars) -> list[tuple[Any, Any]]:
        """Returns the pairs with clipped gradients."""
        pairs = list(grads_and_vars)
        sums = [norms.sums_of_squares(_parts(values_of(gradient))) for gradient, _ in pairs]
        squares = norms.sum_of_pieces(sums)

        def scaled(values: Array) -> Array:
            wide = _wide(values)
            scale = global_scale(squares, self.limit, wide.real.dtype, self.margin)
            clipped: Array = (wide * scale).astype(values.dtype)
            return clipped

        return [(map_values(scaled, gradient), variable) for gradient, variable in pairs]


def _wide(values: Array) -> Array:
    """The values as a contiguous array of at least float32."""
    return np.ascontiguousarray(values, np.float32 if values.dtype.itemsize < 4 else values.dtype)


def _parts(values: Array) -> Array:
    """All numbers as a 1-D array; complex numbers as their real and imaginary parts."""
    wide = _wide(values).reshape(-1)
    return wide.view(wide.real.dtype)
