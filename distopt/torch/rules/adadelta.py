"""The arithmetic of ``torch.optim.Adadelta``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from distopt.engine.rule import Rule, where
from distopt.torch.rules.update_rule import UpdateRule, coupled_decay

__all__ = ["AdadeltaUpdate"]


def _adadelta(w, g, v, u, zero, sign, decay, rho, other, eps, step):  # type: ignore[no-untyped-def]
    g = sign * g
    g = where(decay != zero, g + decay * w, g)
    v = v * rho + other * g * g
    delta = np.sqrt(u + eps) / np.sqrt(v + eps) * g
    return w + step * delta, v, u * rho + other * delta * delta


ADADELTA = Rule("torch_adadelta", _adadelta, ("square_avg", "acc_delta"), in_float32=True)


@final
class AdadeltaUpdate(UpdateRule):
    """``w -= lr * delta`` with ``delta = sqrt(u + eps) / sqrt(v + eps) * g``.

    ``v`` is the running mean of ``g**2``, and ``u`` that of ``delta**2`` up to the previous step.

    Source: Zeiler 2012, arXiv:1212.5701.
    """

    name = "Adadelta"

    def rule(self, group: Mapping[str, Any]) -> Rule:
        """The rule of all options."""
        return ADADELTA

    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """See the class. They are the same in each step, since there is no bias correction."""
        rho = float(group["rho"])
        return {
            **coupled_decay(group),
            "rho": rho,
            "other": 1 - rho,
            "eps": float(group["eps"]),
            "step": -float(group["lr"]),
        }
