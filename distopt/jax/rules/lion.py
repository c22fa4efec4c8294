"""The arithmetic of ``optax.lion``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from distopt.engine.rule import Rule, where
from distopt.jax.rules.leaf_rule import LeafRule, checked

__all__ = ["LionRule"]


def _lion(w, g, mu, zero, one, b1, other1, b2, other2, decay, step):  # type: ignore[no-untyped-def]
    x = b1 * mu + other1 * g
    size = np.abs(x)
    u = x / where(size > zero, size, size + one)  # the sign, also of complex numbers
    u = where(decay != zero, u + decay * w, u)
    return w + step * u, b2 * mu + other2 * g


LION = Rule("optax_lion", _lion, ("mu",), in_float32=True)


@final
@dataclass(frozen=True)
class LionRule(LeafRule):
    """``w -= lr * (sign(b1 * mu + (1 - b1) * g) + decay * w)``, then ``mu = b2 * mu + (1 - b2) * g``.

    Source: Chen et al. 2023, arXiv:2302.06675.
    """

    b1: float = 0.9
    b2: float = 0.99
    name = "lion"

    def __post_init__(self) -> None:
        checked(self, others=("b1", "b2"))

    def rule(self) -> Rule:
        """The rule of all options."""
        return LION

    def coefficients(self, rate: float, decay: float, step: int) -> dict[str, float]:
        """See LeafRule."""
        return {
            "zero": 0.0,
            "one": 1.0,
            "b1": self.b1,
            "other1": 1 - self.b1,
            "b2": self.b2,
            "other2": 1 - self.b2,
            "decay": decay,
            "step": -rate,
        }
