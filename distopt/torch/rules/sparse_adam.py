"""Adam of sparse gradients with the numbers of ``torch.optim.SparseAdam``."""

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
    """Adam on the rows that the gradient names; all other rows keep their values and slots.

    ``w -= lr * sqrt(1 - beta2**s) / (1 - beta1**s) * m / (sqrt(v) + eps)`` in the parameter's step
    ``s = 1, 2, ...``: rows have no counts of their own, and a gradient without rows is a step too.
    """

    name = "SparseAdam"
    scalars: ClassVar[Mapping[str, float]] = MappingProxyType({"step": 0})

    def rule(self, group: Mapping[str, Any]) -> Rule:
        """The only one."""
        return SPARSE_ADAM

    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """Both bias corrections are in the size of the step; epsilon is added to the root as it is."""
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
        """Only sparse ones."""
        if not is_sparse:
            raise RuntimeError("SparseAdam does not support dense gradients, please consider Adam instead")
