"""The arithmetic of ``optax.rmsprop``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from distopt.engine.rule import Rule, where
from distopt.jax.rules.leaf_rule import LeafRule, bias_correction, checked

__all__ = ["RMSpropRule"]


def _rmsprop(w, g, nu, kept, other, whole, eps_root, eps, step):  # type: ignore[no-untyped-def]
    size = np.abs(g)
    nu = kept * nu + other * (size * size)
    return w + step * g / (np.sqrt(whole * nu + eps_root) + eps), nu


def _momentum(  # type: ignore[no-untyped-def]
    w, g, nu, trace, zero, kept, other, whole, eps_root, eps, momentum, ahead, step
):
    size = np.abs(g)
    nu = kept * nu + other * (size * size)
    u = step * g / (np.sqrt(whole * nu + eps_root) + eps)
    trace = u + momentum * trace
    return w + where(ahead != zero, u + momentum * trace, trace), nu, trace


def _centered(w, g, nu, mu, kept, other, whole, eps_root, eps, step):  # type: ignore[no-untyped-def]
    size = np.abs(g)
    nu = kept * nu + other * (size * size)
    mu = kept * mu + other * g
    mean = np.abs(whole * mu)
    return w + step * g / (np.sqrt(whole * nu - mean * mean + eps_root) + eps), nu, mu


def _centered_momentum(  # type: ignore[no-untyped-def]
    w, g, nu, mu, trace, zero, kept, other, whole, eps_root, eps, momentum, ahead, step
):
    size = np.abs(g)
    nu = kept * nu + other * (size * size)
    mu = kept * mu + other * g
    mean = np.abs(whole * mu)
    u = step * g / (np.sqrt(whole * nu - mean * mean + eps_root) + eps)
    trace = u + momentum * trace
    return w + where(ahead != zero, u + momentum * trace, trace), nu, mu, trace


PLAIN = Rule("optax_rmsprop", _rmsprop, ("nu",), in_float32=True)
MOMENTUM = Rule("optax_rmsprop_momentum", _momentum, ("nu", "trace"), in_float32=True)
CENTERED = Rule("optax_rmsprop_centered", _centered, ("nu", "mu"), in_float32=True)
CENTERED_MOMENTUM = Rule(
    "optax_rmsprop_centered_momentum", _centered_momentum, ("nu", "mu", "trace"), in_float32=True
)


@final
@dataclass(frozen=True)
class RMSpropRule(LeafRule):
    """``u = -lr * g / sqrt(nu + eps)``, where ``nu`` is the running mean of ``abs(g)**2``; then ``w += u``.

    With momentum, ``trace = u + momentum * trace`` and ``w += trace``. If centered, the square of the running
    mean of ``g`` is subtracted from ``nu``. Without ``eps_in_sqrt``, ``eps`` is added to the root instead.

    Source: Tieleman & Hinton 2012, lecture 6.5; centered: Graves 2013, arXiv:1308.0850.
    """

    decay: float = 0.9
    eps: float = 1e-8
    initial_scale: float = 0.0
    eps_in_sqrt: bool = True
    centered: bool = False
    momentum: float | None = None
    nesterov: bool = False
    bias_correction: bool = False
    name = "rmsprop"

    def __post_init__(self) -> None:
        checked(self, decays=("decay",) if self.bias_correction else (), others=("eps", "initial_scale"))

    def rule(self) -> Rule:
        """The rule for the options ``momentum`` and ``centered``."""
        if self.momentum is None:
            return CENTERED if self.centered else PLAIN
        return CENTERED_MOMENTUM if self.centered else MOMENTUM

    def coefficients(self, rate: float, decay: float, step: int) -> dict[str, float]:
        """See LeafRule."""
        found = {
            "kept": self.decay,
            "other": 1 - self.decay,
            "whole": bias_correction(self.decay, step) if self.bias_correction else 1.0,
            "eps_root": self.eps if self.eps_in_sqrt else 0.0,
            "eps": 0.0 if self.eps_in_sqrt else self.eps,
            "step": -rate,
        }
        if self.momentum is not None:
            found |= {"zero": 0.0, "momentum": self.momentum, "ahead": float(self.nesterov)}
        return found

    def initial(self, slot: str) -> float:
        """``initial_scale`` for ``nu``, 0 for the other slots."""
        return self.initial_scale if slot == "nu" else 0.0
