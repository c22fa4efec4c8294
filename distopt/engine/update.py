"""Update: what the step engine gets for each variable, and the reductions that it knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from distopt.core.indexed_slices import IndexedSlices
from distopt.core.variable import Variable
from distopt.engine.rule import Rule
from distopt.typing import Array

__all__ = ["Reduction", "Update"]


@dataclass(frozen=True)
class Update:
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
