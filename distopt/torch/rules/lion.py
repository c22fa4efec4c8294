"""The arithmetic of Lion, which ``torch.optim`` does not have."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, final

import numpy as np

from distopt.engine.rule import Rule
from distopt.torch.rules.update_rule import UpdateRule, sign

__all__ = ["LionUpdate"]


def _lion(w, g, m, sign, kept, beta1, other1, beta2, other2, step):  # type: ignore[no-untyped-def]
    g = sign * g
    return w * kept + step * np.sign(beta1 * m + other1 * g), beta2 * m + other2 * g


LION = Rule("torch_lion", _lion, ("exp_avg",), in_float32=True)


@final
class LionUpdate(UpdateRule):
    """``w = w * (1 - lr * weight_decay) - lr * sign(beta1 * m + (1 - beta1) * g)``.

    Then ``m = beta2 * m + (1 - beta2) * g``.

    Source: Chen et al. 2023, arXiv:2302.06675.
    """

    name = "Lion"
    #: 1.0 after the first step. The arithmetic does not need it, but the state of a parameter shows only
    #: then.
    scalars: ClassVar[Mapping[str, float]] = MappingProxyType({"stepped": 0.0})
    internal = frozenset({"stepped"})

    def rule(self, group: Mapping[str, Any]) -> Rule:
        """The rule of all options."""
        return LION

    def advanced(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """``stepped`` becomes 1."""
        return {"stepped": 1.0}

    def restored(self, state: Mapping[str, Any]) -> dict[str, float]:
        """A state that has the mean ``exp_avg`` has made steps."""
        return {"stepped": float(state.get("exp_avg") is not None)}

    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """See the class. Weight decay is always decoupled."""
        lr = float(group["lr"])
        beta1, beta2 = map(float, group["betas"])
        return {
            "sign": sign(group),
            "kept": 1 - lr * float(group["weight_decay"]),
            "beta1": beta1,
            "other1": 1 - beta1,
            "beta2": beta2,
            "other2": 1 - beta2,
            "step": -lr,
        }
