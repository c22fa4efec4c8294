"""Orthogonalizes matrices by Newton-Schulz iteration."""

from __future__ import annotations

import numpy as np

from distopt.engine.norms import sum_of_pieces, sums_of_squares
from distopt.engine.products import gram, product
from distopt.typing import Array, Shape

__all__ = ["COEFFICIENTS", "cost", "frobenius_norm", "newton_schulz"]

#: The coefficients of Jordan et al.: they bring singular values to between 0.7 and 1.2 in few steps.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
#: How many multiply-add operations of a matrix product take as long as reading and writing an element.
_PER_ELEMENT = 12


def frobenius_norm(x: Array) -> float:
    """The Frobenius norm of a matrix, computed in float64, with the same bits on all replicas."""
    return float(np.sqrt(sum_of_pieces([sums_of_squares(np.ascontiguousarray(x).reshape(-1))])))


def newton_schulz(x: Array, steps: int, coefficients: tuple[float, float, float]) -> Array:
    """Brings the singular values of a matrix close to 1 and keeps its singular vectors.

    Each step is ``x = a * x + (b * s + c * s @ s) @ x`` with ``s = x @ x.T``, in the dtype of the matrix.

    Args:
        x: ``[m, n]`` float32 or float64, with a norm of at most 1.
        steps: the number of steps.
        coefficients: ``(a, b, c)``.

    Returns:
        ``[m, n]``.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; Bernstein &
    Newhouse 2024, arXiv:2409.20325.
    """
    if len(x) > x.shape[1]:
        return newton_schulz(x.T, steps, coefficients).T
    a, b, c = coefficients
    for _ in range(steps):
        square = gram(x)
        polynomial = gram(square)  # square @ square, because it is symmetric
        polynomial *= c
        polynomial += b * square
        polynomial[np.diag_indices(len(x))] += a
        x = product(polynomial, x)
    return x


def cost(shape: Shape, steps: int) -> float:
    """The cost of an update by :func:`newton_schulz`, in elements that are read and written."""
    m, n = shape
    return m * n * (1.0 + steps * min(m, n) / _PER_ELEMENT)
