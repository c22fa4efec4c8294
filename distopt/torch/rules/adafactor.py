"""The arithmetic of ``torch.optim.Adafactor``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from distopt.optimizers.factored import (
    as_matrices,
    mean_squares,
    move_mean,
    root_mean_square,
    scaled,
    scaled_rms,
)
from distopt.torch.rules.update_rule import WholeUpdate, sign
from distopt.typing import Array, Shape

__all__ = ["AdafactorUpdate"]


@final
class AdafactorUpdate(WholeUpdate):
    """``w -= max(eps2, rms(w)) * min(lr, 1 / sqrt(s)) * u / max(1, rms(u) / d)`` in step ``s = 1, 2, ...``.

    ``u = g / max(sqrt(v), eps1)``. ``v`` is a running mean of ``g**2``, in which step ``s`` has the weight
    ``s**beta2_decay``. For parameters of two or more axes it is factored: the product of the means of rows
    and of columns, divided by the mean of all elements (at least ``eps1``). First of all, ``w -= lr *
    weight_decay * w``. An ``eps1`` of None is the machine epsilon of the dtype of the computation, at least
    float32.

    Source: Shazeer & Stern 2018, arXiv:1804.04235.
    """

    name = "Adafactor"

    def slot_shapes(self, group: Mapping[str, Any], shape: Shape) -> dict[str, Shape]:
        """The means of rows and columns; for fewer than two axes, the mean of each element."""
        if len(shape) < 2:
            return {"variance": shape}
        return {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, shape[-1])}

    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """See the class. ``share`` is the weight of this step; ``eps1`` is -1 for None."""
        lr, step, (eps1, eps2) = float(group["lr"]), scalars["step"], group["eps"]
        return {
            "sign": sign(group),
            "kept": 1 - lr * float(group["weight_decay"]),
            "share": step ** float(group["beta2_decay"]),
            "rho": min(lr, step**-0.5),
            "eps1": -1.0 if eps1 is None else float(eps1),
            "eps2": float(eps2),
            "d": float(group["d"]),
        }

    def update(self, w: Array, g: Array, slots: dict[str, Array], numbers: Mapping[str, float]) -> None:
        """See the class."""
        if w.size == 0:
            return
        eps1 = float(np.finfo(w.dtype).eps) if numbers["eps1"] < 0 else numbers["eps1"]
        alpha = -numbers["sign"] * max(numbers["eps2"], root_mean_square(w)) * numbers["rho"]
        if numbers["kept"] != 1:
            w *= numbers["kept"]
        if "variance" in slots:
            v = slots["variance"]
            move_mean(v, g * g, numbers["share"])
            u = g / np.sqrt(np.maximum(v, eps1 * eps1))
            w += alpha / max(1.0, root_mean_square(u) / numbers["d"]) * u
            return
        gradient, values = as_matrices(g), as_matrices(w)
        row, column = slots["row_var"].reshape(values.shape[:2]), slots["col_var"].reshape(len(values), -1)
        for mean, now in zip((row, column), mean_squares(gradient, 0.0), strict=True):
            move_mean(mean, now, numbers["share"])
        relative = row / np.maximum(row.mean(axis=-1, keepdims=True), eps1)
        size = scaled_rms(gradient, relative, column, eps1 * eps1)
        step = alpha / max(1.0, size / numbers["d"])
        for part, u in scaled(gradient, relative, column, eps1 * eps1):
            values[part] += step * u
