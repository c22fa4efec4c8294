"""The arithmetic of ``optax.adabelief``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from distopt.engine.rule import Rule
from distopt.jax.rules.leaf_rule import LeafRule, bias_correction, checked, mean_weights

__all__ = ["AdaBeliefRule"]


def _adabelief(  # type: ignore[no-untyped-def]
    w, g, mu, nu, b1, other1, b2, other2, mean, ahead, square, eps_root, eps, step
):
    mu = b1 * mu + other1 * g
    distance = np.abs(g - mu)  # also for complex numbers
    nu = b2 * nu + other2 * (distance * distance) + eps_root
    return w + step * (mean * mu + ahead * g) / (np.sqrt(square * nu) + eps), mu, nu


ADABELIEF = Rule("optax_adabelief", _adabelief, ("mu", "nu"), in_float32=True)


@final
@dataclass(frozen=True)
class AdaBeliefRule(LeafRule):
    """Adam with ``nu = b2 * nu + (1 - b2) * abs(g - mu)**2 + eps_root``.

    Source: Zhuang et al. 2020, arXiv:2010.07468.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-16
    eps_root: float = 1e-16
    nesterov: bool = False
    name = "adabelief"

    def __post_init__(self) -> None:
        checked(self, decays=("b1", "b2"), others=("eps", "eps_root"))

    def rule(self) -> Rule:
        """The rule of all options."""
        return ADABELIEF

    def coefficients(self, rate: float, decay: float, step: int) -> dict[str, float]:
        """See LeafRule."""
        mean, ahead = mean_weights(self.b1, step, self.nesterov)
        return {
            "b1": self.b1,
            "other1": 1 - self.b1,
            "b2": self.b2,
            "other2": 1 - self.b2,
            "mean": mean,
            "ahead": ahead,
            "square": bias_correction(self.b2, step),
            "eps_root": self.eps_root,
            "eps": self.eps,
            "step": -rate,
        }
