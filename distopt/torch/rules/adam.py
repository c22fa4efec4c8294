"""The arithmetic of ``torch.optim.Adam`` and ``torch.optim.AdamW``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from distopt.engine.rule import Rule, where
from distopt.torch.rules.update_rule import UpdateRule, sign

__all__ = ["AdamUpdate"]


def _adam(  # type: ignore[no-untyped-def]
    w, g, m, v, zero, half, sign, kept, decay, beta1, other1, beta2, other2, root, eps, step
):
    g = sign * g
    g = where(decay != zero, g + decay * w, g)
    # As torch.lerp: exact for weights of 0 and 1, so that a beta1 of 0 gives m = g.
    m = where(other1 < half, m + other1 * (g - m), g - (g - m) * beta1)
    v = v * beta2 + other2 * g * g
    return w * kept + step * m / (np.sqrt(v) / root + eps), m, v


def _amsgrad(  # type: ignore[no-untyped-def]
    w, g, m, v, largest, zero, half, sign, kept, decay, beta1, other1, beta2, other2, root, eps, step
):
    g = sign * g
    g = where(decay != zero, g + decay * w, g)
    m = where(other1 < half, m + other1 * (g - m), g - (g - m) * beta1)
    v = v * beta2 + other2 * g * g
    largest = np.maximum(largest, v)
    return w * kept + step * m / (np.sqrt(largest) / root + eps), m, v, largest


ADAM = Rule("torch_adam", _adam, ("exp_avg", "exp_avg_sq"), in_float32=True)
AMSGRAD = Rule("torch_amsgrad", _amsgrad, ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"), in_float32=True)


@final
class AdamUpdate(UpdateRule):
    """``w -= lr / (1 - beta1**s) * m / (sqrt(v) / sqrt(1 - beta2**s) + eps)`` in step ``s = 1, 2, ...``.

    With ``decoupled_weight_decay`` (AdamW), ``w`` is first multiplied by ``1 - lr * weight_decay``. Otherwise
    ``weight_decay * w`` is added to the gradient. AMSGrad uses the largest ``v`` so far.

    Source: Kingma & Ba 2014, arXiv:1412.6980; Loshchilov & Hutter 2017, arXiv:1711.05101; Reddi et al.
    2018, "On the Convergence of Adam and Beyond".
    """

    name = "Adam"
    optional_slots = frozenset({"max_exp_avg_sq"})

    def rule(self, group: Mapping[str, Any]) -> Rule:
        """AMSGrad's rule or Adam's, by ``amsgrad``."""
        return AMSGRAD if group["amsgrad"] else ADAM

    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """``kept`` is the factor of decoupled weight decay, ``decay`` the coefficient of coupled decay."""
        lr, weight_decay, made = float(group["lr"]), float(group["weight_decay"]), scalars["step"]
        beta1, beta2 = map(float, group["betas"])
        decoupled = group["decoupled_weight_decay"]
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
            "root": (1 - beta2**made) ** 0.5,
            "eps": float(group["eps"]),
            "step": -lr / (1 - beta1**made),
        }

    def check_gradient(self, group: Mapping[str, Any], is_sparse: bool) -> None:
        """Rejects sparse gradients, because Adam updates all elements in every step."""
        if is_sparse:
            raise RuntimeError("Adam does not support sparse gradients, please consider SparseAdam instead")
