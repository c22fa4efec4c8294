"""The arithmetic of ``optax.lars``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from distopt.engine.rule import Rule, where
from distopt.engine.trust_ratio import TrustRatioRule
from distopt.jax.rules.leaf_rule import LeafRule, checked

__all__ = ["LarsRule"]


def _direction(w, g, u, zero, decay):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return w, where(decay != zero, g + decay * w, g)


def _ratio(of_w, of_u, adapts, trust_coefficient, eps):  # type: ignore[no-untyped-def]
    ratios = trust_coefficient * of_w / (of_u + eps)
    return np.where((adapts == 0) | (of_w == 0) | (of_u == 0), np.ones_like(ratios), ratios)


def _momentum(w, u, trace, momentum, step, ratio):  # type: ignore[no-untyped-def]
    trace = step * (ratio * u) + momentum * trace
    return w + trace, trace


def _nesterov(w, u, trace, momentum, step, ratio):  # type: ignore[no-untyped-def]
    change = step * (ratio * u)
    trace = change + momentum * trace
    return w + (change + momentum * trace), trace


DIRECTION = Rule("optax_lars_direction", _direction, ("u",), in_float32=True)
MOMENTUM, NESTEROV = [
    TrustRatioRule(name, DIRECTION, _ratio, Rule(f"{name}_step", step, ("trace",), in_float32=True))
    for name, step in (("optax_lars", _momentum), ("optax_lars_nesterov", _nesterov))
]


@final
@dataclass(frozen=True)
class LarsRule(LeafRule):
    """``u = g + decay * w``, ``trace = momentum * trace - lr * ratio * u``, ``w += trace``.

    The ratio is ``trust_coefficient * norm(w) / (norm(u) + eps)``, with the norms of the whole leaf. It is 1
    if a norm is 0, and for leaves that the trust mask excludes.

    Source: You et al. 2017, arXiv:1708.03888.
    """

    trust_coefficient: float = 0.001
    eps: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    name = "lars"

    def __post_init__(self) -> None:
        checked(self, others=("trust_coefficient", "eps", "momentum"))

    def rule(self) -> TrustRatioRule:
        """The rule for the option ``nesterov``."""
        return NESTEROV if self.nesterov else MOMENTUM

    def coefficients(self, rate: float, decay: float, step: int) -> dict[str, float]:
        """See LeafRule."""
        return {
            "zero": 0.0,
            "decay": decay,
            "adapts": 1.0,
            "trust_coefficient": self.trust_coefficient,
            "eps": self.eps,
            "momentum": self.momentum,
            "step": -rate,
        }

    def not_adapted(self, coefficients: dict[str, float]) -> dict[str, float]:
        """See LeafRule."""
        return {**coefficients, "adapts": 0.0}
