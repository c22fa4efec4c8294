"""The arithmetic of ``torch.optim.RMSprop``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from distopt.engine.rule import Rule, where
from distopt.torch.rules.update_rule import UpdateRule, coupled_decay

__all__ = ["RMSpropUpdate"]


def _rmsprop(w, g, v, zero, sign, decay, alpha, other, eps, step):  # type: ignore[no-untyped-def]
    g = sign * g
    g = where(decay != zero, g + decay * w, g)
    v = v * alpha + other * g * g
    return w + step * g / (np.sqrt(v) + eps), v


def _momentum(w, g, v, m, zero, sign, decay, alpha, other, eps, step, momentum):  # type: ignore[no-untyped-def]
    g = sign * g
    g = where(decay != zero, g + decay * w, g)
    v = v * alpha + other * g * g
    m = momentum * m + g / (np.sqrt(v) + eps)
    return w + step * m, v, m


def _centered(w, g, v, a, zero, sign, decay, alpha, other, eps, step, half):  # type: ignore[no-untyped-def]
    g = sign * g
    g = where(decay != zero, g + decay * w, g)
    v = v * alpha + other * g * g
    a = where(other < half, a + other * (g - a), g - (g - a) * alpha)
    return w + step * g / (np.sqrt(v - a * a) + eps), v, a


def _centered_momentum(  # type: ignore[no-untyped-def]
    w, g, v, m, a, zero, sign, decay, alpha, other, eps, step, momentum, half
):
    g = sign * g
    g = where(decay != zero, g + decay * w, g)
    v = v * alpha + other * g * g
    a = where(other < half, a + other * (g - a), g - (g - a) * alpha)
    m = momentum * m + g / (np.sqrt(v - a * a) + eps)
    return w + step * m, v, m, a


PLAIN = Rule("torch_rmsprop", _rmsprop, ("square_avg",), in_float32=True)
MOMENTUM = Rule("torch_rmsprop_momentum", _momentum, ("square_avg", "momentum_buffer"), in_float32=True)
CENTERED = Rule("torch_rmsprop_centered", _centered, ("square_avg", "grad_avg"), in_float32=True)
CENTERED_MOMENTUM = Rule(
    "torch_rmsprop_centered_momentum",
    _centered_momentum,
    ("square_avg", "momentum_buffer", "grad_avg"),
    in_float32=True,
)


@final
class RMSpropUpdate(UpdateRule):
    """``v = alpha * v + (1 - alpha) * g**2``, ``w -= lr * g / (sqrt(v) + eps)``.

    If centered, ``v - a**2`` replaces ``v`` in the root, where ``a`` is the running mean of the gradient.
    With momentum, ``buffer = momentum * buffer + g / (sqrt(v) + eps)`` and ``w -= lr * buffer``.

    Source: Tieleman & Hinton 2012, lecture 6.5; centered: Graves 2013, arXiv:1308.0850.
    """

    name = "RMSprop"
    optional_slots = frozenset({"momentum_buffer", "grad_avg"})

    def rule(self, group: Mapping[str, Any]) -> Rule:
        """The rule for the options ``momentum`` and ``centered``."""
        if group["momentum"] > 0:
            return CENTERED_MOMENTUM if group["centered"] else MOMENTUM
        return CENTERED if group["centered"] else PLAIN

    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """See the class. They are the same in each step, since there is no bias correction."""
        alpha = float(group["alpha"])
        found = {
            **coupled_decay(group),
            "alpha": alpha,
            "other": 1 - alpha,
            "eps": float(group["eps"]),
            "step": -float(group["lr"]),
        }
        if group["momentum"] > 0:
            found["momentum"] = float(group["momentum"])
        return {**found, "half": 0.5} if group["centered"] else found
