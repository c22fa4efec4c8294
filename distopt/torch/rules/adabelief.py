"""The arithmetic of AdaBelief, as in its authors' package ``adabelief_pytorch``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from distopt.engine.rule import Rule, where
from distopt.optimizers.rectification import rectification
from distopt.torch.rules.update_rule import UpdateRule

__all__ = ["AdaBeliefUpdate"]


def _adabelief(  # type: ignore[no-untyped-def]
    w, g, m, s, zero, one, kept, decay, beta1, other1, beta2, other2, root, eps, divides, step
):
    g = where(decay != zero, g + decay * w, g)
    m = m * beta1 + other1 * g
    far = g - m
    s = s * beta2 + other2 * far * far + eps
    divisor = where(divides > zero, np.sqrt(s) / root + eps, one)
    return w * kept + step * m / divisor, m, s


def _amsgrad(  # type: ignore[no-untyped-def]
    w, g, m, s, largest, zero, one, kept, decay, beta1, other1, beta2, other2, root, eps, divides, step
):
    g = where(decay != zero, g + decay * w, g)
    m = m * beta1 + other1 * g
    far = g - m
    s = s * beta2 + other2 * far * far + eps
    largest = np.maximum(largest, s)
    divisor = where(divides > zero, np.sqrt(largest) / root + eps, one)
    return w * kept + step * m / divisor, m, s, largest


ADABELIEF = Rule("torch_adabelief", _adabelief, ("exp_avg", "exp_avg_var"), in_float32=True)
AMSGRAD = Rule(
    "torch_adabelief_amsgrad", _amsgrad, ("exp_avg", "exp_avg_var", "max_exp_avg_var"), in_float32=True
)


@final
class AdaBeliefUpdate(UpdateRule):
    """Adam with ``s = beta2 * s + (1 - beta2) * (g - m)**2 + eps`` instead of the mean of ``g**2``.

    ``w -= lr / (1 - beta1**k) * m / (sqrt(s) / sqrt(1 - beta2**k) + eps)`` in step ``k = 1, 2, ...``. With
    ``rectify``, the step is multiplied by RAdam's rectification, and ``eps`` is added to ``sqrt(s)`` without
    bias correction.

    Source: Zhuang et al. 2020, arXiv:2010.07468; Liu et al. 2019, arXiv:1908.03265.
    """

    name = "AdaBelief"
    optional_slots = frozenset({"max_exp_avg_var"})

    def rule(self, group: Mapping[str, Any]) -> Rule:
        """The rule for ``amsgrad``, which the authors' package ignores with ``rectify``."""
        return AMSGRAD if group["amsgrad"] and not group["rectify"] else ADABELIEF

    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """``kept`` is the factor of decoupled weight decay, ``decay`` the coefficient of coupled decay.

        ``divides`` is 0 in the first steps with ``rectify``, which cannot be rectified: they are ``-lr * m``,
        or 0 without ``degenerated_to_sgd``.
        """
        lr, weight_decay, made = float(group["lr"]), float(group["weight_decay"]), scalars["step"]
        beta1, beta2 = map(float, group["betas"])
        decoupled, correction = group["weight_decouple"], (1 - beta2**made) ** 0.5
        size, root, divides = 1.0, correction, True
        if group["rectify"]:
            factor = rectification(beta2, made)
            root, divides = 1.0, factor is not None
            if factor is not None:
                size = factor * correction
            elif not group["degenerated_to_sgd"]:
                size = 0.0
        rate = 1.0 if group["fixed_decay"] else lr
        return {
            "zero": 0.0,
            "one": 1.0,
            "kept": 1 - rate * weight_decay if decoupled else 1.0,
            "decay": 0.0 if decoupled else weight_decay,
            "beta1": beta1,
            "other1": 1 - beta1,
            "beta2": beta2,
            "other2": 1 - beta2,
            "root": root,
            "eps": float(group["eps"]),
            "divides": float(divides),
            "step": -lr / (1 - beta1**made) * size,
        }
