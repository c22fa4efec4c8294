"""The arithmetic of ``torch.optim.SparseAdam``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, final

import numpy as np

from distopt.engine.rule import Rule, Sparse
from distopt.torch.rules.update_rule import UpdateRule, sign

__all__ = ["SparseAdamUpdate"]


def _sparse_adam(w, g, m, v, sign, other1, other2, eps, step):  # type: ignore[no-untyped-def]
    g = sign * g
    m = m + other1 * (g - m)
    v = v + other2 * (g * g - v)
    return w + step * (m / (np.sqrt(v) + eps)), m, v


SPARSE_ADAM = Rule("torch_sparse_adam", _sparse_adam, ("exp_avg", "exp_avg_sq"), Sparse.ROWS, in_float32=True)


@final
class SparseAdamUpdate(UpdateRule):
    """Adam on the rows of the sparse gradient; all other rows keep their values and slots.

    ``w -= lr * sqrt(1 - beta2**s) / (1 - beta1**s) * m / (sqrt(v) + eps)`` in step ``s = 1, 2, ...``. Steps
    are counted per parameter, not per row. A gradient without rows also counts as a step.
    """

    name = "SparseAdam"
    scalars: ClassVar[Mapping[str, float]] = MappingProxyType({"step": 0})

    def rule(self, group: Mapping[str, Any]) -> Rule:
        """The rule of all options."""
        return SPARSE_ADAM

    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """See the class. Both bias corrections are part of ``step``, so they do not affect ``eps``."""
        beta1, beta2 = map(float, group["betas"])
        made = scalars["step"]
        return {
            "sign": sign(group),
            "other1": 1 - beta1,
            "other2": 1 - beta2,
            "eps": float(group["eps"]),
            "step": -float(group["lr"]) * (1 - beta2**made) ** 0.5 / (1 - beta1**made),
        }

    def check_gradient(self, group: Mapping[str, Any], is_sparse: bool) -> None:
        """Rejects dense gradients."""
        if not is_sparse:
            raise RuntimeError("SparseAdam does not support dense gradients, please consider Adam instead")
