"""The arithmetic of ``torch.optim.RAdam``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from distopt.engine.rule import Rule, where
from distopt.optimizers.rectification import rectification
from distopt.torch.rules.update_rule import UpdateRule, sign

__all__ = ["RAdamUpdate"]


def _radam(  # type: ignore[no-untyped-def]
    w, g, m, v, zero, half, one, sign, kept, decay, beta1, other1, beta2, other2, eps, rectified, step
):
    g = sign * g
    g = where(decay != zero, g + decay * w, g)
    m = where(other1 < half, m + other1 * (g - m), g - (g - m) * beta1)
    v = v * beta2 + other2 * g * g
    divisor = where(rectified > zero, np.sqrt(v) + eps, one)
    return w * kept + step * m / divisor, m, v


RADAM = Rule("torch_radam", _radam, ("exp_avg", "exp_avg_sq"), in_float32=True)


@final
class RAdamUpdate(UpdateRule):
    """``w -= lr * r(s) / (1 - beta1**s) * m * sqrt(1 - beta2**s) / (sqrt(v) + eps)`` in step ``s``.

    ``r`` is the rectification. It does not exist in the first steps, which are ``w -= lr / (1 - beta1**s) *
    m``. Weight decay is as in Adam, decoupled or not.

    Source: Liu et al. 2019, arXiv:1908.03265.
    """

    name = "RAdam"

    def rule(self, group: Mapping[str, Any]) -> Rule:
        """The rule of all options."""
        return RADAM

    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """``kept`` is the factor of decoupled weight decay, ``decay`` the coefficient of coupled decay."""
        lr, weight_decay, made = float(group["lr"]), float(group["weight_decay"]), scalars["step"]
        beta1, beta2 = map(float, group["betas"])
        decoupled = group["decoupled_weight_decay"]
        factor = rectification(beta2, made)
        size = 1.0 if factor is None else factor * (1 - beta2**made) ** 0.5
        return {
            "zero": 0.0,
            "half": 0.5,
            "one": 1.0,
            "sign": sign(group),
            "kept": 1 - lr * weight_decay if decoupled else 1.0,
            "decay": 0.0 if decoupled else weight_decay,
            "beta1": beta1,
            "other1": 1 - beta1,
            "beta2": beta2,
            "other2": 1 - beta2,
            "eps": float(group["eps"]),
            "rectified": float(factor is not None),
            "step": -lr / (1 - beta1**made) * size,
        }
