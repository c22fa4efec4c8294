"""The arithmetic of ``torch.optim.Muon``, in float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from distopt.optimizers.newton_schulz import cost, frobenius_norm, newton_schulz
from distopt.torch.rules.update_rule import WholeUpdate
from distopt.typing import Array, Shape

__all__ = ["MuonUpdate"]

#: PyTorch allows fewer Newton-Schulz steps than this.
_TOO_MANY = 100


@final
class MuonUpdate(WholeUpdate):
    """``m += (g - m) * (1 - momentum)``, ``u = g + momentum * (m - g)`` (Nesterov) or ``m``.

    Then ``w -= lr * weight_decay * w`` and ``w -= adjusted * orthogonal(u)``, with ``lr`` adjusted to the
    matrix's shape ``[m, n]``: times ``sqrt(max(1, m / n))``, or ``0.2 * sqrt(max(m, n))`` with
    ``"match_rms_adamw"``. PyTorch orthogonalizes in bfloat16; here it is float32, whatever the parameter's
    dtype.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; Liu et al. 2025,
    arXiv:2502.16982.
    """

    name = "Muon"
    #: PyTorch keeps the momentum buffer only.
    internal = frozenset({"step"})

    def slot_shapes(self, group: Mapping[str, Any], shape: Shape) -> dict[str, Shape]:
        """The momentum buffer."""
        return {"momentum_buffer": shape}

    def restored(self, state: Mapping[str, Any]) -> dict[str, float]:
        """A state that has the buffer has made steps."""
        return {"step": float(state.get("momentum_buffer") is not None)}

    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """The options as numbers.

        Raises:
            ValueError: too many Newton-Schulz steps, or not three coefficients.
        """
        if group["ns_steps"] >= _TOO_MANY:
            raise ValueError("Number of steps must be less than 100 for computational efficiency")
        if len(group["ns_coefficients"]) != 3:
            raise ValueError("Coefficients must be a tuple of exactly 3 values")
        a, b, c = map(float, group["ns_coefficients"])
        lr, momentum = float(group["lr"]), float(group["momentum"])
        return {
            "lr": lr,
            "kept": 1 - lr * float(group["weight_decay"]),
            "momentum": momentum,
            "own": 1 - momentum if group["nesterov"] else 0.0,
            **{"a": a, "b": b, "c": c, "steps": float(group["ns_steps"]), "eps": float(group["eps"])},
            "like_adamw": float(group["adjust_lr_fn"] == "match_rms_adamw"),
        }

    def update(self, w: Array, g: Array, slots: dict[str, Array], numbers: Mapping[str, float]) -> None:
        """See the class."""
        mean = slots["momentum_buffer"]
        mean += (g - mean) * (1 - numbers["momentum"])
        if w.size == 0:
            return
        u = (mean + (g - mean) * numbers["own"]).astype(np.float32, copy=False)
        unit = u / np.float32(max(frobenius_norm(u), numbers["eps"]))
        coefficients = numbers["a"], numbers["b"], numbers["c"]
        direction = newton_schulz(unit, int(numbers["steps"]), coefficients)
        rows, columns = w.shape
        factor = 0.2 * max(rows, columns) ** 0.5 if numbers["like_adamw"] else max(1, rows / columns) ** 0.5
        w *= numbers["kept"]
        w -= numbers["lr"] * factor * direction

    def cost(self, group: Mapping[str, Any], shape: Shape) -> float:
        """The cost of the matrix products of Newton-Schulz."""
        return cost(shape, int(group["ns_steps"]))
