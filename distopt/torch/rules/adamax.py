"""The arithmetic of ``torch.optim.Adamax``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from distopt.engine.rule import Rule, where
from distopt.torch.rules.update_rule import UpdateRule, coupled_decay

__all__ = ["AdamaxUpdate"]


def _adamax(w, g, m, u, zero, half, sign, decay, beta1, other1, beta2, eps, step):  # type: ignore[no-untyped-def]
    g = sign * g
    g = where(decay != zero, g + decay * w, g)
    m = where(other1 < half, m + other1 * (g - m), g - (g - m) * beta1)
    u = np.maximum(u * beta2, np.abs(g) + eps)
    return w + step * m / u, m, u


ADAMAX = Rule("torch_adamax", _adamax, ("exp_avg", "exp_inf"), in_float32=True)


@final
class AdamaxUpdate(UpdateRule):
    """``u = max(beta2 * u, abs(g) + eps)``, ``w -= lr / (1 - beta1**s) * m / u`` in step ``s = 1, 2, ...``.

    Source: Kingma & Ba 2014, arXiv:1412.6980, section 7.1.
    """

    name = "Adamax"

    def rule(self, group: Mapping[str, Any]) -> Rule:
        """The rule of all options."""
        return ADAMAX

    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """See the class. ``step`` includes the bias correction of ``m``; ``u`` needs none."""
        beta1, beta2 = map(float, group["betas"])
        return {
            **coupled_decay(group),
            "half": 0.5,
            "beta1": beta1,
            "other1": 1 - beta1,
            "beta2": beta2,
            "eps": float(group["eps"]),
            "step": -float(group["lr"]) / (1 - beta1 ** scalars["step"]),
        }
