"""The arithmetic of ``optax.radam``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from distopt.engine.rule import Rule, where
from distopt.jax.rules.leaf_rule import LeafRule, bias_correction, checked, mean_weights
from distopt.optimizers.rectification import check_threshold, rectification

__all__ = ["RAdamRule"]


def _radam(  # type: ignore[no-untyped-def]
    w, g, mu, nu, zero, one, b1, other1, b2, other2, mean, ahead, square, eps_root, eps, rectified, step
):
    mu = b1 * mu + other1 * g
    size = np.abs(g)  # also for complex numbers
    nu = b2 * nu + other2 * (size * size)
    divisor = where(rectified > zero, np.sqrt(square * nu + eps_root) + eps, one)
    return w + step * (mean * mu + ahead * g) / divisor, mu, nu


RADAM = Rule("optax_radam", _radam, ("mu", "nu"), in_float32=True)


@final
@dataclass(frozen=True)
class RAdamRule(LeafRule):
    """Adam's step times the rectification. In the first steps, which have none, it is ``mu / (1 - b1**s)``.

    Source: Liu et al. 2019, arXiv:1908.03265.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    eps_root: float = 0.0
    threshold: float = 5.0
    nesterov: bool = False
    name = "radam"

    def __post_init__(self) -> None:
        checked(self, decays=("b1", "b2"), others=("eps", "eps_root"))
        check_threshold(self.threshold, "threshold of radam()")

    def rule(self) -> Rule:
        """The rule of all options."""
        return RADAM

    def coefficients(self, rate: float, decay: float, step: int) -> dict[str, float]:
        """See LeafRule."""
        factor = rectification(self.b2, step, self.threshold)
        mean, ahead = mean_weights(self.b1, step, self.nesterov)
        return {
            "zero": 0.0,
            "one": 1.0,
            "b1": self.b1,
            "other1": 1 - self.b1,
            "b2": self.b2,
            "other2": 1 - self.b2,
            "mean": mean,
            "ahead": ahead,
            "square": bias_correction(self.b2, step),
            "eps_root": self.eps_root,
            "eps": self.eps,
            "rectified": float(factor is not None),
            "step": -rate * (1.0 if factor is None else factor),
        }
