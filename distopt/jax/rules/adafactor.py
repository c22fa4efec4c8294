"""The arithmetic of ``optax.adafactor``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from distopt.jax.rules.leaf_rule import WholeLeafUpdate, checked
from distopt.optimizers.factored import (
    as_matrices,
    mean_squares,
    move_mean,
    root_mean_square,
    scaled,
    scaled_rms,
)
from distopt.optimizers.limits import NOT_NEGATIVE, within
from distopt.typing import Array, Shape

__all__ = ["AdafactorRule"]

#: The lower bound of the root mean square of a leaf by which its step is multiplied.
_LEAST_SCALE = 1e-3


@final
@dataclass(frozen=True)
class AdafactorRule(WholeLeafUpdate):
    """``w -= lr * max(1e-3, rms(w)) * u / max(1, rms(u) / clipping_threshold)`` with ``u = g / sqrt(v)``.

    ``v`` is a running mean of ``g**2 + eps``, in which step ``s = 1, 2, ...`` has the weight ``(s -
    decay_offset)**-decay_rate``. It is factored if the two longest axes of the leaf have at least
    ``min_dim_size_to_factor`` elements: the product of the means over each of them, divided by the mean of
    all elements. With ``momentum``, a running mean of these updates is subtracted instead. Weight decay also
    subtracts ``decay * w``.

    Source: Shazeer & Stern 2018, arXiv:1804.04235.
    """

    min_dim_size_to_factor: int = 128
    decay_rate: float = 0.8
    decay_offset: int = 0
    multiply_by_parameter_scale: bool = True
    clipping_threshold: float | None = 1.0
    momentum: float | None = None
    eps: float = 1e-30
    factored: bool = True
    name = "adafactor"

    def __post_init__(self) -> None:
        checked(self, others=("min_dim_size_to_factor", "decay_rate", "momentum", "eps"))
        if self.clipping_threshold is not None:
            within(NOT_NEGATIVE, self.clipping_threshold, "clipping_threshold of adafactor()")

    def _axes(self, shape: Shape) -> tuple[int, int] | None:
        """The two longest axes of a factored leaf, the longest last; None if the leaf is not factored."""
        if not self.factored or len(shape) < 2:
            return None
        *_, second, longest = np.argsort(shape).tolist()
        return None if shape[second] < self.min_dim_size_to_factor else (second, longest)

    def slot_shapes(self, shape: Shape) -> dict[str, Shape]:
        """See LeafUpdate. Slots that optax keeps as placeholders are left out."""
        axes = self._axes(shape)
        momentum = {} if self.momentum is None else {"ema": shape}
        if axes is None:
            return {"v": shape, **momentum}
        rows, columns = ((*shape[:axis], *shape[axis + 1 :]) for axis in reversed(axes))
        return {"v_row": rows, "v_col": columns, **momentum}

    def coefficients(self, rate: float, decay: float, step: int) -> dict[str, float]:
        """See LeafUpdate."""
        share = np.float64(step - self.decay_offset) ** -self.decay_rate
        return {"rate": rate, "decay": decay, "share": float(share)}

    def update(self, w: Array, g: Array, slots: dict[str, Array], numbers: Mapping[str, float]) -> None:
        """See LeafUpdate."""
        axes, share = self._axes(w.shape), numbers["share"]
        if axes is None:
            v = slots["v"]
            move_mean(v, np.square(g) + self.eps, share)
            u = g / np.sqrt(v)
            u *= self._step(w, root_mean_square(u), numbers)
        else:
            u = self._factored(axes, w, g, slots, numbers)
        if self.momentum is not None:
            move_mean(slots["ema"], u, 1 - self.momentum)
            u = slots["ema"]
        w *= 1 - numbers["decay"]
        w -= u

    def _factored(
        self, axes: tuple[int, int], w: Array, g: Array, slots: dict[str, Array], numbers: Mapping[str, float]
    ) -> Array:
        """The update of a factored leaf, in its shape, before momentum and weight decay."""
        second, longest = axes
        gradient = as_matrices(g, axes)
        means = []
        places = {"v_row": second - (second > longest), "v_col": longest - (longest > second)}
        for (name, axis), now in zip(places.items(), mean_squares(gradient, self.eps), strict=True):
            moved = np.moveaxis(slots[name], axis, -1)
            move_mean(moved, now.reshape(moved.shape), numbers["share"])
            means.append(moved.reshape(now.shape))
        rows, columns = means
        relative, least = rows / rows.mean(axis=-1, keepdims=True), float(np.finfo(w.dtype).tiny)
        step = self._step(w, scaled_rms(gradient, relative, columns, least), numbers)
        result = np.empty_like(gradient)
        for part, u in scaled(gradient, relative, columns, least):
            np.multiply(u, step, out=result[part])
        lead = np.moveaxis(w, axes, (-2, -1)).shape
        return np.moveaxis(result.reshape(lead), (-2, -1), axes)

    def _step(self, w: Array, size: float, numbers: Mapping[str, float]) -> float:
        """The factor of the scaled gradient ``u`` in the update, where ``size`` is its root mean square."""
        step = numbers["rate"]
        if self.multiply_by_parameter_scale:
            step *= max(_LEAST_SCALE, root_mean_square(w))
        return step if self.clipping_threshold is None else step / max(1.0, size / self.clipping_threshold)
