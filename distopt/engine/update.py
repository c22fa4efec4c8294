"""Update: what the step engine gets for each variable, and the reductions that it knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from distopt.core.indexed_slices import IndexedSlices
from distopt.core.variable import Variable
from distopt.engine.rule import Rule
from distopt.typing import Array

__all__ = ["Reduction", "Update", "lowest_terms", "weighed"]


class Update(NamedTuple):
    """One variable's part in a step.

    Attributes:
        variable: what is updated.
        gradient: a C-contiguous array like it, or IndexedSlices.
        slots: the rule's slots of this variable.
        rule: the arithmetic.
        coefficients: scalars of the variable's dtype, in the order of ``rule.coefficients``.
    """

    variable: Variable
    gradient: Array | IndexedSlices
    slots: tuple[Variable, ...]
    rule: Rule
    coefficients: tuple[Any, ...]


@dataclass(frozen=True)
class Reduction:
    """How the replicas' gradients become one, in the engine's own pass.

    Attributes:
        weight: None for a plain sum; 1 for the mean; any count for the mean weighted by counts.
    """

    weight: int | None = None


def lowest_terms(weight: int | None, weights: Sequence[int]) -> tuple[int | None, int | None]:
    """What a replica's gradients are multiplied by, and what their sum is divided by; None for 1.

    In lowest terms, so that equal weights are the plain mean, and one replica's gradients stay as they are.

    Args:
        weight: this replica's, or None for a plain sum.
        weights: those of all replicas.
    """
    common = gcd(*weights)
    if weight is None or common == 0:
        return None, None if weight is None else 0
    factor = weight // common
    return None if factor == 1 else factor, sum(weights) // common


def weighed(values: Array, factor: int | None) -> Array:
    """``values * factor``; zeros for factor 0, since a mean over no examples may well be NaN."""
    if factor is None:
        return values
    return values * values.dtype.type(factor) if factor else np.zeros_like(values)
