"""The arithmetic of ``optax.lamb``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from distopt.engine.rule import Rule, where
from distopt.engine.trust_ratio import TrustRatioRule
from distopt.jax.rules.leaf_rule import LeafRule, bias_correction, checked

__all__ = ["LambRule"]


def _direction(  # type: ignore[no-untyped-def]
    w, g, u, mu, nu, zero, b1, other1, b2, other2, mean, square, eps_root, eps, decay
):
    mu = b1 * mu + other1 * g
    size = np.abs(g)  # also for complex numbers
    nu = b2 * nu + other2 * (size * size)
    u = mean * mu / (np.sqrt(square * nu + eps_root) + eps)
    return w, where(decay != zero, u + decay * w, u), mu, nu


def _ratio(of_w, of_u):  # type: ignore[no-untyped-def]
    return np.where((of_w == 0) | (of_u == 0), np.ones_like(of_w), of_w / of_u)


def _step(w, u, step, ratio):  # type: ignore[no-untyped-def]
    return (w + step * (ratio * u),)


DIRECTION = Rule("optax_lamb_direction", _direction, ("u", "mu", "nu"), in_float32=True)
LAMB = TrustRatioRule("optax_lamb", DIRECTION, _ratio, Rule("optax_lamb_step", _step, in_float32=True))


@final
@dataclass(frozen=True)
class LambRule(LeafRule):
    """``u = mu / (1 - b1**s) / (sqrt(nu / (1 - b2**s) + eps_root) + eps) + decay * w`` in step ``s``.

    Then ``w -= lr * norm(w) / norm(u) * u``, with the norms of the whole leaf. The ratio is 1 if a norm is 0.

    Source: You et al. 2019, arXiv:1904.00962.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-6
    eps_root: float = 0.0
    name = "lamb"

    def __post_init__(self) -> None:
        checked(self, decays=("b1", "b2"), others=("eps", "eps_root"))

    def rule(self) -> TrustRatioRule:
        """The rule of all options."""
        return LAMB

    def coefficients(self, rate: float, decay: float, step: int) -> dict[str, float]:
        """See LeafRule."""
        return {
            "zero": 0.0,
            "b1": self.b1,
            "other1": 1 - self.b1,
            "b2": self.b2,
            "other2": 1 - self.b2,
            "mean": bias_correction(self.b1, step),
            "square": bias_correction(self.b2, step),
            "eps_root": self.eps_root,
            "eps": self.eps,
            "decay": decay,
            "step": -rate,
        }
