"""The arithmetic of ``torch.optim.Adagrad``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from distopt.engine.rule import Rule, where
from distopt.torch.rules.update_rule import UpdateRule, coupled_decay

__all__ = ["AdagradUpdate"]


def _adagrad(w, g, total, zero, sign, decay, eps, step):  # type: ignore[no-untyped-def]
    g = sign * g
    g = where(decay != zero, g + decay * w, g)
    total = total + g * g
    return w + step * g / (np.sqrt(total) + eps), total


ADAGRAD = Rule("torch_adagrad", _adagrad, ("sum",), in_float32=True)


@final
class AdagradUpdate(UpdateRule):
    """``sum += g**2``, ``w -= lr * g / (sqrt(sum) + eps)``.

    ``lr_decay`` divides ``lr`` by ``1 + (s - 1) * lr_decay`` in step ``s = 1, 2, ...``.

    As in PyTorch, the state of the parameters is created with the optimizer, and the sums start at the
    constructor's ``initial_accumulator_value``, even in groups that have another one.

    Source: Duchi et al. 2011, "Adaptive Subgradient Methods for Online Learning".
    """

    name = "Adagrad"
    has_state_at_once = True

    def rule(self, group: Mapping[str, Any]) -> Rule:
        """The rule of all options."""
        return ADAGRAD

    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """See the class."""
        divisor = 1 + (scalars["step"] - 1) * float(group["lr_decay"])
        return {**coupled_decay(group), "eps": float(group["eps"]), "step": -float(group["lr"]) / divisor}

    def initial(self, group: Mapping[str, Any], slot: str) -> float:
        """``initial_accumulator_value``."""
        return float(group["initial_accumulator_value"])

    def check_gradient(self, group: Mapping[str, Any], is_sparse: bool) -> None:
        """Rejects sparse gradients with weight decay, which changes all rows."""
        if is_sparse and group["weight_decay"] != 0:
            raise RuntimeError("weight_decay option is not compatible with sparse gradients")
