"""The arithmetic of clipping, on arrays; the same for whole gradients and for shards of them."""

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
    """What is clipped, in this order; None leaves a kind out.

    Attributes:
        value: each element to ``[-value, value]``.
        norm: each gradient's l2 norm.
        global_norm: the l2 norm of all gradients together.
        margin: added to that norm, as PyTorch does.
    """

    value: float | None = None
    norm: float | None = None
    global_norm: float | None = None
    margin: float = 0.0

    @property
    def needs_norms(self) -> bool:
        """Whether all sums must be there before the first update."""
        return self.norm is not None or self.global_norm is not None

    def __str__(self) -> str:
        kinds = (("value", self.value), ("norm", self.norm), ("global norm", self.global_norm))
        return ", ".join(f"clip {name} {limit:g}" for name, limit in kinds if limit is not None)


def clip_value(values: Array, limit: float) -> Array:
    """Each element moved into ``[-limit, limit]``; NaN stays."""
    bound = values.dtype.type(limit)
    # NumPy computes that of bfloat16 in float32; the result is one of the three numbers all the same.
    clipped: Array = np.clip(values, -bound, bound)
    return clipped.astype(values.dtype, copy=False)


def clip_norm(values: Array, squares: float, limit: float) -> Array:
    """``g * c / max(norm, c)``, of a gradient whose squares sum to ``squares``.

    An infinite element becomes NaN and makes all others 0.
    """
    if limit == 0:
        return np.zeros_like(values)
    wide = arithmetic_dtype(values.dtype)
    bound = wide.type(limit)
    result: Array = values.astype(wide, copy=False) * bound / np.maximum(wide.type(math.sqrt(squares)), bound)
    return result.astype(values.dtype, copy=False)


def clip_global_norm(values: Array, squares: float, limit: float) -> Array:
    """A gradient times :func:`global_scale`, of gradients whose squares all together sum to ``squares``."""
    wide = arithmetic_dtype(values.dtype)
    result: Array = values.astype(wide, copy=False) * global_scale(squares, limit, wide)
    return result.astype(values.dtype, copy=False)


def global_scale(squares: float, limit: float, dtype: np.dtype[Any], margin: float = 0.0) -> Any:
    """The factor for all gradients, in their dtype: ``c * min(1/norm, 1/c)``.

    With a margin, ``min(1, c / (norm + margin))``.

    Args:
        squares: the sum of the squares of all elements.
        limit: the largest norm allowed.
        dtype: that of the gradients.
        margin: added to the norm.

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
