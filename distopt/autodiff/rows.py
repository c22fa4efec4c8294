"""Reading and adding rows of a table, as autograd primitives: the ground of sparse gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from autograd.extend import defvjp, primitive

from distopt.core.indexed_slices import IndexedSlices
from distopt.typing import Array

__all__ = ["scatter_rows", "take_rows"]


def _take_rows(params: Array, indices: Array) -> Array:
    return params[indices]


def _scatter_rows(values: Array, indices: Array, shape: tuple[int, ...]) -> Array:
    dense = np.zeros(shape, values.dtype)
    np.add.at(dense, indices, values)
    return dense


#: ``take_rows(params [n, ...], indices)`` -> ``[*indices.shape, ...]``; its derivative is IndexedSlices.
take_rows = primitive(_take_rows)
#: ``scatter_rows(values [k, ...], indices [k], shape)`` -> ``shape``: rows added into zeros.
scatter_rows = primitive(_scatter_rows)


def _take_vjp(_answer: Any, params: Any, indices: Array) -> Any:
    shape = tuple(params.shape)

    def vjp(cotangent: Any) -> IndexedSlices:
        rows = np.reshape(cotangent, (indices.size, *shape[1:]))
        return IndexedSlices(rows, indices.reshape(-1), shape)

    return vjp


def _scatter_vjp(_answer: Any, _values: Any, indices: Array, _shape: tuple[int, ...]) -> Any:
    return lambda cotangent: take_rows(cotangent, indices)


defvjp(take_rows, _take_vjp)
defvjp(scatter_rows, _scatter_vjp)
