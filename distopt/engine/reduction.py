"""FusedReduction: a sum or mean over replicas that the engine computes in the same pass as the update."""

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
    """A sum or mean of the replicas' gradients.

    Attributes:
        weight: None for a sum; 1 for a mean; this replica's number of examples for a weighted mean.
        wire: the wire format of float32 gradients between nodes.
    """

    weight: int | None = None
    wire: str = EXACT


def lowest_terms(weight: int | None, weights: Sequence[int]) -> tuple[int | None, int | None]:
    """The factor of this replica's gradients, and the divisor of their sum; None for 1.

    They are reduced to lowest terms. So equal weights give the bits of the plain mean, and a single
    replica's gradients do not change. The divisor is 0 if all weights are 0.

    Args:
        weight: this replica's weight, or None for a plain sum.
        weights: the weights of all replicas.
    """
    if weight is None:
        return None, None
    common = gcd(*weights)
    if common == 0:
        return None, 0
    factor = weight // common
    return None if factor == 1 else factor, sum(weights) // common


def weighted(values: Array, factor: int | None) -> Array:
    """``values * factor``; ``values`` itself for None; zeros for 0, as a mean over no examples may be NaN."""
    if factor is None:
        return values
    return values * values.dtype.type(factor) if factor else np.zeros_like(values)
