"""The arithmetic of ``optax.adamax`` and ``optax.adamaxw``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from distopt.engine.rule import Rule, where
from distopt.jax.rules.leaf_rule import LeafRule, bias_correction, checked

__all__ = ["AdamaxRule"]


def _adamax(w, g, mu, nu, zero, b1, other1, b2, mean, eps, decay, step):  # type: ignore[no-untyped-def]
    mu = b1 * mu + other1 * g
    nu = np.maximum(np.abs(g) + eps, b2 * nu)
    u = mean * mu / nu
    u = where(decay != zero, u + decay * w, u)
    return w + step * u, mu, nu


ADAMAX = Rule("optax_adamax", _adamax, ("mu", "nu"), in_float32=True)


@final
@dataclass(frozen=True)
class AdamaxRule(LeafRule):
    """``nu = max(abs(g) + eps, b2 * nu)``, ``w -= lr * (mu / (1 - b1**s) / nu + decay * w)``.

    Source: Kingma & Ba 2014, arXiv:1412.6980, section 7.1.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    name = "adamax"

    def __post_init__(self) -> None:
        checked(self, decays=("b1", "b2"), others=("eps",))

    def rule(self) -> Rule:
        """The rule of all options."""
        return ADAMAX

    def coefficients(self, rate: float, decay: float, step: int) -> dict[str, float]:
        """See LeafRule."""
        return {
            "zero": 0.0,
            "b1": self.b1,
            "other1": 1 - self.b1,
            "b2": self.b2,
            "mean": bias_correction(self.b1, step),
            "eps": self.eps,
            "decay": decay,
            "step": -rate,
        }
