"""The arithmetic of LAMB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from distopt.engine.rule import Rule, where
from distopt.engine.trust_ratio import TrustRatioRule
from distopt.torch.rules.update_rule import UpdateRule, sign

__all__ = ["LAMBUpdate"]


def _direction(  # type: ignore[no-untyped-def]
    w, g, u, m, v, zero, sign, decay, beta1, other1, beta2, other2, mean, root, eps
):
    g = sign * g
    m = beta1 * m + other1 * g
    v = v * beta2 + other2 * g * g
    u = m * mean / (np.sqrt(v) / root + eps)
    return w, where(decay != zero, u + decay * w, u), m, v


def _ratio(of_w, of_u, adapts, largest):  # type: ignore[no-untyped-def]
    ratios = np.minimum(of_w / of_u, largest)
    return np.where((adapts != 0) & (of_w > 0) & (of_u > 0), ratios, np.ones_like(ratios))


def _step(w, u, step, ratio):  # type: ignore[no-untyped-def]
    return (w + step * ratio * u,)


DIRECTION = Rule("torch_lamb_direction", _direction, ("u", "exp_avg", "exp_avg_sq"), in_float32=True)
LAMB = TrustRatioRule("torch_lamb", DIRECTION, _ratio, Rule("torch_lamb_step", _step, in_float32=True))


@final
class LAMBUpdate(UpdateRule):
    """``u = m / (1 - beta1**s) / (sqrt(v / (1 - beta2**s)) + eps) + weight_decay * w`` in step ``s``.

    Then ``w -= lr * norm(w) / norm(u) * u``, with the norms of the whole parameter. The ratio is 1 if a norm
    is 0, and in groups without weight decay unless ``always_adapt``.

    Source: You et al. 2019, arXiv:1904.00962.
    """

    name = "LAMB"

    def rule(self, group: Mapping[str, Any]) -> TrustRatioRule:
        """The rule of all options."""
        return LAMB

    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """See the class. Options that are off give neutral coefficients, such as a ``mean`` of 1."""
        lr, decay, made = float(group["lr"]), float(group["weight_decay"]), scalars["step"]
        beta1, beta2 = map(float, group["betas"])
        corrected = group["bias_correction"]
        return {
            "zero": 0.0,
            "sign": sign(group),
            "decay": decay,
            "beta1": beta1,
            "other1": 1 - beta1 if group["grad_averaging"] else 1.0,
            "beta2": beta2,
            "other2": 1 - beta2,
            "mean": 1 / (1 - beta1**made) if corrected else 1.0,
            "root": (1 - beta2**made) ** 0.5 if corrected else 1.0,
            "eps": float(group["eps"]),
            "adapts": float(decay != 0 or group["always_adapt"]),
            "largest": 1.0 if group["trust_clip"] else np.inf,
            "step": -lr,
        }
