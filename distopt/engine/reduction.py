"""How the replicas' gradients become one, where the engine does it in its own pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np

from distopt.collectives import EXACT
from distopt.typing import Array

__all__ = ["FusedReduction", "lowest_terms", "weighted"]


@dataclass(frozen=True)
class FusedReduction:
    """How the replicas' gradients become one, in the engine's own pass.

    Attributes:
        weight: None for a plain sum; 1 for the mean; any count for the mean weighted by counts.
        wire: how float32 gradients travel between nodes.
    """

    weight: int | None = None
    wire: str = EXACT


def lowest_terms(weight: int | None, weights: Sequence[int]) -> tuple[int | None, int | None]:
    """What a replica's gradients are multiplied by, and what their sum is divided by; None for 1.

    In lowest terms, so that equal weights are the plain mean, and one replica's gradients stay as they are.

    Args:
        weight: this replica's, or None for a plain sum.
        weights: those of all replicas.
    """
    if weight is None:
        return None, None
    common = gcd(*weights)
    if common == 0:
        return None, 0
    factor = weight // common
    return None if factor == 1 else factor, sum(weights) // common


def weighted(values: Array, factor: int | None) -> Array:
    """``values * factor``; zeros for factor 0, since a mean over no examples may well be NaN."""
    if factor is None:
        return values
    return values * values.dtype.type(factor) if factor else np.zeros_like(values)
