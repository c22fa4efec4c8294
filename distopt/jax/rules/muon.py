"""The arithmetic of ``optax.contrib.muon``."""

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

#: optax's lower bound of the squared norms that "aol" and "schatten" divide by.
_LEAST = 1e-8


class MatrixAxes(NamedTuple):
    """Which axes of a leaf form the rows and the columns of its matrices. The other axes are batch axes.

    Attributes:
        rows: the axes that a matrix product with the leaf sums over: optax's ``reduction_axis``.
        columns: optax's ``output_axis``.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def order(self, shape: Shape) -> tuple[int, ...]:
        """All axes in the order: batch axes, rows, columns."""
        others = [axis for axis in range(len(shape)) if axis not in (*self.rows, *self.columns)]
        return (*others, *self.rows, *self.columns)

    def size(self, shape: Shape) -> tuple[int, int]:
        """The numbers of rows and columns of a matrix of a leaf of this shape."""
        return prod(shape[axis] for axis in self.rows), prod(shape[axis] for axis in self.columns)


#: The axes of a leaf that is a single matrix.
TWO_AXES = MatrixAxes((0,), (1,))


class Orthogonalizer(NamedTuple):
    """Orthogonalizes matrices with Newton-Schulz steps.

    Attributes:
        coefficients: the coefficients of each step.
        preconditioning: how a matrix is scaled first: "frobenius", "aol" or "schatten".
        eps: added to the Frobenius norm.
    """

    coefficients: tuple[tuple[float, float, float], ...]
    preconditioning: str
    eps: float

    def __call__(self, x: Array) -> Array:
        """Returns a matrix with the singular vectors of ``x``, and singular values near 1."""
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
    """``mu = beta * mu + (1 - beta) * g``, ``w -= lr * (factor * orthogonal(u) + decay * w)``.

    ``u`` is ``mu`` with bias correction, or with ``nesterov`` an estimate of its next value. With
    ``adaptive``, the direction ``o = orthogonal(u)`` is multiplied by ``sum(u * o)``. For matrices ``[m,
    n]``, ``factor`` is ``sqrt(max(1, n / m))``, or ``consistent_rms * sqrt(max(m, n))``.

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
        """The running mean of the gradient."""
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
        direction *= max(1.0, n / m) ** 0.5 if rms is None else rms * max(m, n) ** 0.5
        if numbers["decay"]:
            direction += numbers["decay"] * w
        w -= numbers["rate"] * direction

    def _orthogonal(self, u: Array) -> Array:
        """Orthogonalizes each matrix of ``u``; the result has its shape."""
        order = self.axes.order(u.shape)
        permuted = u.transpose(order)
        matrices = permuted.reshape(-1, *self.axes.size(u.shape))
        found = np.stack([self.orthogonalizer(np.ascontiguousarray(matrix)) for matrix in matrices])
        inverse = sorted(range(u.ndim), key=order.__getitem__)
        return np.ascontiguousarray(found.reshape(permuted.shape).transpose(inverse))

    def cost(self, shape: Shape) -> float:
        """The cost of the matrix products of Newton-Schulz."""
        m, n = self.axes.size(shape)
        return prod(shape) / (m * n) * cost((m, n), len(self.orthogonalizer.coefficients))


@final
@dataclass(frozen=True)
class AdamBesideMuon(LeafRule):
    """AdamW for the leaves that Muon does not update.

    Args:
        adam: the arithmetic.
        learning_rate: the learning rate of these leaves, a number or a schedule; None for that of the
            matrices.
        weight_decay: the weight decay of these leaves.
    """

    adam: AdamRule
    learning_rate: Any = None
    weight_decay: float = 0.0
    name = "muon"

    def rule(self) -> Rule:
        """Adam's rule."""
        return self.adam.rule()

    def coefficients(self, rate: float, decay: float, step: int) -> dict[str, float]:
        """See LeafRule."""
        if self.learning_rate is not None:
            rate = value_at(self.learning_rate, step - 1, "adam_learning_rate")
        return self.adam.coefficients(rate, self.weight_decay, step)
