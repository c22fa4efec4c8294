"""The arithmetic of ``torch.optim.NAdam``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, final

import numpy as np

from distopt.engine.rule import Rule, where
from distopt.torch.rules.update_rule import UpdateRule, sign

__all__ = ["NAdamUpdate"]


def _nadam(  # type: ignore[no-untyped-def]
    w, g, m, v, zero, half, sign, kept, decay, beta1, other1, beta2, other2, correction, eps, step, ahead
):
    g = sign * g
    g = where(decay != zero, g + decay * w, g)
    m = where(other1 < half, m + other1 * (g - m), g - (g - m) * beta1)
    v = v * beta2 + other2 * g * g
    divisor = np.sqrt(v / correction) + eps
    return w * kept + step * g / divisor + ahead * m / divisor, m, v


NADAM = Rule("torch_nadam", _nadam, ("exp_avg", "exp_avg_sq"), in_float32=True)


@final
class NAdamUpdate(UpdateRule):
    """Adam with Nesterov momentum.

    ``w -= lr * ((1 - mu(s)) / (1 - P(s)) * g + mu(s + 1) / (1 - P(s + 1)) * m) / (sqrt(v / (1 - beta2**s)) +
    eps)`` in step ``s = 1, 2, ...``, where ``mu(s) = beta1 * (1 - 0.96**(s * momentum_decay) / 2)`` and
    ``P(s)`` is the product ``mu(1) * ... * mu(s)``. The scalar ``mu_product`` is ``P(s)`` in single
    precision, as in PyTorch with its default dtype float32. Weight decay is as in Adam, decoupled or not.

    Source: Dozat 2016, "Incorporating Nesterov Momentum into Adam".
    """

    name = "NAdam"
    scalars: ClassVar[Mapping[str, float]] = MappingProxyType({"step": 0.0, "mu_product": 1.0})

    def rule(self, group: Mapping[str, Any]) -> Rule:
        """The rule of all options."""
        return NADAM

    def advanced(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """Advances the step count and the product."""
        step = scalars["step"] + 1
        product = np.float32(scalars["mu_product"]) * np.float32(_mu(group, step))
        return {"step": step, "mu_product": float(product)}

    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """``kept`` is the factor of decoupled weight decay, ``decay`` the coefficient of coupled decay.

        ``ahead`` is the coefficient of ``m``.
        """
        lr, weight_decay, made = float(group["lr"]), float(group["weight_decay"]), scalars["step"]
        beta1, beta2 = map(float, group["betas"])
        decoupled = group["decoupled_weight_decay"]
        product, following = scalars["mu_product"], _mu(group, made + 1)
        return {
            "zero": 0.0,
            "half": 0.5,
            "sign": sign(group),
            "kept": 1 - lr * weight_decay if decoupled else 1.0,
            "decay": 0.0 if decoupled else weight_decay,
            "beta1": beta1,
            "other1": 1 - beta1,
            "beta2": beta2,
            "other2": 1 - beta2,
            "correction": 1 - beta2**made,
            "eps": float(group["eps"]),
            "step": -lr * (1 - _mu(group, made)) / (1 - product),
            "ahead": -lr * following / (1 - product * following),
        }


def _mu(group: Mapping[str, Any], step: float) -> float:
    """The momentum ``mu`` of a step, counted from 1."""
    beta1, momentum_decay = float(group["betas"][0]), float(group["momentum_decay"])
    weight: float = 0.96 ** (step * momentum_decay)
    return beta1 * (1 - 0.5 * weight)
