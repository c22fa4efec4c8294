"""The arithmetic of ``optax.adagrad``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from distopt.engine.rule import Rule, where
from distopt.jax.rules.leaf_rule import LeafRule, checked

__all__ = ["AdagradRule"]


def _adagrad(w, g, total, zero, one, eps, step):  # type: ignore[no-untyped-def]
    size = np.abs(g)
    total = total + size * size
    # Both branches are computed, so the divisor is replaced with 1 where the sum is 0.
    seen = total > zero
    u = where(seen, g / np.sqrt(where(seen, total + eps, one)), zero * total)
    return w + step * u, total


ADAGRAD = Rule("optax_adagrad", _adagrad, ("sum_of_squares",), in_float32=True)


@final
@dataclass(frozen=True)
class AdagradRule(LeafRule):
    """``sum += abs(g)**2``, then ``w -= lr * g / sqrt(sum + eps)`` where the sum is above 0.

    Source: Duchi et al. 2011, "Adaptive Subgradient Methods for Online Learning".
    """

    initial_accumulator_value: float = 0.1
    eps: float = 1e-7
    name = "adagrad"

    def __post_init__(self) -> None:
        checked(self, others=("initial_accumulator_value", "eps"))

    def rule(self) -> Rule:
        """The rule of all options."""
        return ADAGRAD

    def coefficients(self, rate: float, decay: float, step: int) -> dict[str, float]:
        """See LeafRule."""
        return {"zero": 0.0, "one": 1.0, "eps": self.eps, "step": -rate}

    def initial(self, slot: str) -> float:
        """``initial_accumulator_value``."""
        return self.initial_accumulator_value
