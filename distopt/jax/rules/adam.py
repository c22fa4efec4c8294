"""The arithmetic of ``optax.adam``, ``adamw``, ``nadam`` and ``nadamw``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from distopt.engine.rule import Rule, where
from distopt.jax.rules.leaf_rule import LeafRule, bias_correction, checked, mean_weights

__all__ = ["AdamRule"]


def _adam(  # type: ignore[no-untyped-def]
    w, g, mu, nu, zero, b1, other1, b2, other2, mean, ahead, square, eps_root, eps, decay, step
):
    mu = b1 * mu + other1 * g
    size = np.abs(g)  # also for complex numbers
    nu = b2 * nu + other2 * (size * size)
    u = (mean * mu + ahead * g) / (np.sqrt(square * nu + eps_root) + eps)
    u = where(decay != zero, u + decay * w, u)
    return w + step * u, mu, nu


ADAM = Rule("optax_adam", _adam, ("mu", "nu"), in_float32=True)


@final
@dataclass(frozen=True)
class AdamRule(LeafRule):
    """``u = mu / (1 - b1**s) / (sqrt(nu / (1 - b2**s) + eps_root) + eps)``, ``w -= lr * (u + decay * w)``.

    With ``nesterov``, the direction uses an estimate of the next step's ``mu``. See ``mean_weights``.

    Source: Kingma & Ba 2014, arXiv:1412.6980; Dozat 2016; Loshchilov & Hutter 2017, arXiv:1711.05101.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    eps_root: float = 0.0
    nesterov: bool = False
    name = "adam"

    def __post_init__(self) -> None:
        checked(self, decays=("b1", "b2"), others=("eps", "eps_root"))

    def rule(self) -> Rule:
        """The rule of all options. Without Nesterov momentum, the coefficient ``ahead`` is 0."""
        return ADAM

    def coefficients(self, rate: float, decay: float, step: int) -> dict[str, float]:
        """See LeafRule."""
        mean, ahead = mean_weights(self.b1, step, self.nesterov)
        return {
            "zero": 0.0,
            "b1": self.b1,
            "other1": 1 - self.b1,
            "b2": self.b2,
            "other2": 1 - self.b2,
            "mean": mean,
            "ahead": ahead,
            "square": bias_correction(self.b2, step),
            "eps_root": self.eps_root,
            "eps": self.eps,
            "decay": decay,
            "step": -rate,
        }
