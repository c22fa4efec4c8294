"""The arithmetic of clipping, for whole gradients and for shards."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from distopt.core.dtypes import arithmetic_dtype
from distopt.typing import Array

__all__ = ["Clip", "clip_global_norm", "clip_norm", "clip_value", "global_scale"]


@dataclass(frozen=True)
class Clip:
    """The limits of clips, applied in this order; None for no clip.

    Attributes:
        value: limits each element to ``[-value, value]``.
        norm: limits the l2 norm of each gradient.
        global_norm: limits the l2 norm of all gradients together.
        margin: a number that is added to the global norm, as in PyTorch.
    """

    value: float | None = None
    norm: float | None = None
    global_norm: float | None = None
    margin: float = 0.0

    @property
    def needs_norms(self) -> bool:
        """Whether it clips by norm, so that all gradients must be summed before the first update."""
        return self.norm is not None or self.global_norm is not None

    def __str__(self) -> str:
        kinds = (("value", self.value), ("norm", self.norm), ("global norm", self.global_norm))
        return ", ".join(f"clip {name} {limit:g}" for name, limit in kinds if limit is not None)


def clip_value(values: Array, limit: float) -> Array:
    """Limits each element to ``[-limit, limit]``; NaN stays NaN."""
    bound = values.dtype.type(limit)
    # NumPy clips bfloat16 in float32, but the result is exact: one of its three operands.
    clipped: Array = np.clip(values, -bound, bound)
    return clipped.astype(values.dtype, copy=False)


def clip_norm(values: Array, squares: float, limit: float) -> Array:
    """``g * c / max(norm, c)``, for a gradient whose sum of squares is ``squares``.

    If an element is infinite, it becomes NaN, and all others become 0.
    """
    if limit == 0:
        return np.zeros_like(values)
    wide = arithmetic_dtype(values.dtype)
    bound = wide.type(limit)
    result: Array = values.astype(wide, copy=False) * bound / np.maximum(wide.type(math.sqrt(squares)), bound)
    return result.astype(values.dtype, copy=False)


def clip_global_norm(values: Array, squares: float, limit: float) -> Array:
    """A gradient times :func:`global_scale`; ``squares``: the sum of squares of all gradients."""
    wide = arithmetic_dtype(values.dtype)
    result: Array = values.astype(wide, copy=False) * global_scale(squares, limit, wide)
    return result.astype(values.dtype, copy=False)


def global_scale(squares: float, limit: float, dtype: np.dtype[Any], margin: float = 0.0) -> Any:
    """The factor of all gradients: ``c * min(1/norm, 1/c)``; with a margin, ``min(1, c / (norm + margin))``.

    Args:
        squares: the sum of squares of all gradients.
        limit: c, the largest norm allowed.
        dtype: the dtype of the gradients, and of the result.
        margin: a number that is added to the norm.

    Returns:
        a scalar; NaN when the norm is not finite.
    """
    if limit == 0:
        return dtype.type(0)
    with np.errstate(all="ignore"):
        norm, bound, one = dtype.type(math.sqrt(squares)), dtype.type(limit), dtype.type(1)
        if margin:
            return np.minimum(one, bound / (norm + dtype.type(margin)))  # NaN if the norm is
        scale = bound * np.minimum(one / norm, one / bound)
        return scale + (norm - norm)  # NaN when the norm is not finite
