"""Muon with the numbers of ``optax.contrib.muon``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple, final

import numpy as np

from distopt.engine.products import gram
from distopt.engine.rule import Rule
from distopt.jax.rates import value_at
from distopt.jax.rules.adam import AdamRule
from distopt.jax.rules.leaf_rule import LeafRule, WholeLeafUpdate, mean_weights
from distopt.optimizers.newton_schulz import cost, frobenius_norm, newton_schulz
from distopt.typing import Array, Shape

__all__ = ["TWO_AXES", "AdamBesideMuon", "MatrixAxes", "MuonRule", "Orthogonalizer"]

#: The least number that optax's other scales are roots of.
_LEAST = 1e-8


class MatrixAxes(NamedTuple):
    """Which axes of a leaf make the rows and the columns of its matrices; one for each place on the others.

    Attributes:
        rows: the axes that a product with the leaf sums over.
        columns: those of its result.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def order(self, shape: Shape) -> tuple[int, ...]:
        """All axes: those of no matrix, the rows, the columns."""
        others = [axis for axis in range(len(shape)) if axis not in (*self.rows, *self.columns)]
        return (*others, *self.rows, *self.columns)

    def size(self, shape: Shape) -> tuple[int, int]:
        """Rows and columns of a matrix."""
        return prod(shape[axis] for axis in self.rows), prod(shape[axis] for axis in self.columns)


#: Those of a leaf that is a matrix.
TWO_AXES = MatrixAxes((0,), (1,))


class Orthogonalizer(NamedTuple):
    """How matrices are orthogonalized.

    Attributes:
        coefficients: of each step.
        preconditioning: what they are scaled by before: "frobenius", "aol" or "schatten".
        eps: is added to the Frobenius norm.
    """

    coefficients: tuple[tuple[float, float, float], ...]
    preconditioning: str
    eps: float

    def __call__(self, x: Array) -> Array:
        """A matrix with the same singular vectors, and singular values near 1."""
        if len(x) > x.shape[1]:
            return self(np.ascontiguousarray(x.T)).T
        x = self._scaled(x)
        for each in self.coefficients:
            x = newton_schulz(x, 1, each)
        return x

    def _scaled(self, x: Array) -> Array:
        if self.preconditioning == "frobenius":
            return np.asarray(x / x.dtype.type(frobenius_norm(x) + self.eps))
        square = gram(x)
        if self.preconditioning == "schatten":
            return np.asarray(x / x.dtype.type(max(frobenius_norm(square), _LEAST) ** 0.5))
        rows = np.maximum(np.abs(square).sum(axis=1, keepdims=True), x.dtype.type(_LEAST))
        return np.asarray(x / np.sqrt(rows))


@final
@dataclass(frozen=True)
class MuonRule(WholeLeafUpdate):
    """``mu = beta * mu + (1 - beta) * g``, and ``w -= lr * (longer * orthogonal(u) + decay * w)``.

    ``u`` is the mean, corrected for its bias; with ``nesterov`` the one that the next step will have. With
    ``adaptive`` the direction ``o`` is ``sum(u * o) * o``. For matrices ``[m, n]``, ``longer`` is
    ``sqrt(max(1, n / m))``, or ``consistent_rms * sqrt(max(m, n))``.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; Bernstein &
    Newhouse 2024, arXiv:2409.20325; Liu et al. 2025, arXiv:2502.16982; Boissin et al. 2025, arXiv:2512.04632
    (aol); Grishina et al. 2025, arXiv:2506.10935 (schatten).
    """

    orthogonalizer: Orthogonalizer
    beta: float = 0.95
    nesterov: bool = True
    adaptive: bool = False
    consistent_rms: float | None = None
    axes: MatrixAxes = TWO_AXES
    name = "muon"

    def slot_shapes(self, shape: Shape) -> dict[str, Shape]:
        """A mean."""
        return {"mu": shape}

    def coefficients(self, rate: float, decay: float, step: int) -> dict[str, float]:
        """See LeafUpdate."""
        mean, ahead = mean_weights(self.beta, step, self.nesterov)
        return {"rate": rate, "decay": decay, "mean": mean, "ahead": ahead}

    def update(self, w: Array, g: Array, slots: dict[str, Array], numbers: Mapping[str, float]) -> None:
        """See LeafUpdate."""
        mu = slots["mu"]
        mu *= self.beta
        mu += (1 - self.beta) * g
        u = numbers["mean"] * mu + numbers["ahead"] * g
        direction = self._orthogonal(u)
        if self.adaptive:
            direction *= np.sum(u * direction)
        m, n = self.axes.size(w.shape)
        rms = self.consistent_rms
        longer = max(1.0, n / m) ** 0.5 if rms is None else rms * max(m, n) ** 0.5
        direction *= longer
        if numbers["decay"]:
            direction += numbers["decay"] * w
        w -= numbers["rate"] * direction

    def _orthogonal(self, u: Array) -> Array:
        order = self.axes.order(u.shape)
        turned = u.transpose(order)
        matrices = turned.reshape(-1, *self.axes.size(u.shape))
        found = np.stack([self.orthogonalizer(np.ascontiguousarray(matrix)) for matrix in matrices])
        back = sorted(range(u.ndim), key=order.__getitem__)
        return np.ascontiguousarray(found.reshape(turned.shape).transpose(back))

    def cost(self, shape: Shape) -> float:
        """That of the products."""
        m, n = self.axes.size(shape)
        return prod(shape) / (m * n) * cost((m, n), len(self.orthogonalizer.coefficients))


@final
@dataclass(frozen=True)
class AdamBesideMuon(LeafRule):
    """AdamW for the leaves that are no matrices.

    Args:
        adam: its arithmetic.
        learning_rate: its own, a number or a schedule; None for that of the matrices.
        weight_decay: its own.
    """

    adam: AdamRule
    learning_rate: Any = None
    weight_decay: float = 0.0
    name = "muon"

    def rule(self) -> Rule:
        """Adam's."""
        return self.adam.rule()

    def coefficients(self, rate: float, decay: float, step: int) -> dict[str, float]:
        """See LeafRule."""
        if self.learning_rate is not None:
            rate = value_at(self.learning_rate, step - 1, "adam_learning_rate")
        return self.adam.coefficients(rate, self.weight_decay, step)
