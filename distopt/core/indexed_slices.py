"""IndexedSlices: a sparse gradient, some rows of a variable."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.tensor import TensorLike, as_array
from distopt.typing import Array

__all__ = ["IndexedSlices", "sum_duplicates"]


class IndexedSlices:
    """Rows of a tensor: row ``indices[i]`` is ``values[i]``, all others are zero.

    Args:
        values: ``[n, ...]``, the rows.
        indices: ``[n]`` integers, in any order. Values of repeated rows are added.
        dense_shape: the shape of the whole tensor, or None.
    """

    __slots__ = ("_dense_shape", "_indices", "_values")

    def __init__(self, values: Any, indices: Any, dense_shape: Any = None) -> None:
        self._values = values
        self._indices = indices
        self._dense_shape = dense_shape

    @property
    def values(self) -> Any:
        """The rows, ``[n, ...]``, as they were passed."""
        return self._values

    @property
    def indices(self) -> Any:
        """The indices of the rows, ``[n]``, as they were passed."""
        return self._indices

    @property
    def dense_shape(self) -> Any:
        """The shape of the whole tensor, or None."""
        return self._dense_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        return as_array(self._values).dtype

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of the whole tensor, or None if unknown."""
        return None if self._dense_shape is None else tuple(int(n) for n in as_array(self._dense_shape))

    def to_dense(self, shape: tuple[int, ...] | None = None) -> Array:
        """Returns the whole tensor, with repeated rows added.

        Args:
            shape: the shape of the result. By default ``dense_shape``.

        Raises:
            ValueError: the shape is unknown, or rows or indices do not fit it.
        """
        target = shape if shape is not None else self.shape
        if target is None:
            raise ValueError("IndexedSlices without dense_shape cannot be converted to dense: pass shape=...")
        rows, where = as_array(self._values), as_array(self._indices)
        if where.dtype.kind not in "iu" or where.ndim != 1 or rows.shape != (len(where), *target[1:]):
            raise ValueError(
                f"IndexedSlices need one row of shape {tuple(target[1:])} for each of their whole-number "
                f"indices; got values of shape {rows.shape}, indices of shape {where.shape} and {where.dtype}"
            )
        if len(where) and not (where.min() >= 0 and where.max() < target[0]):
            raise ValueError(
                f"IndexedSlices have an index out of range for {target[0]} rows: {where.tolist()}"
            )
        dense = np.zeros(target, rows.dtype)
        np.add.at(dense, where, rows)
        return dense

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        dense = self.to_dense()
        return dense if dtype is None else dense.astype(dtype)

    def _scaled(self, factor: Any) -> IndexedSlices:
        return IndexedSlices(self._values * factor, self._indices, self._dense_shape)

    def __mul__(self, factor: Any) -> IndexedSlices:
        return self._scaled(factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> IndexedSlices:
        return IndexedSlices(self._values / divisor, self._indices, self._dense_shape)

    def __neg__(self) -> IndexedSlices:
        return IndexedSlices(-self._values, self._indices, self._dense_shape)

    def __repr__(self) -> str:
        return f"IndexedSlices(values={self._values!r}, indices={self._indices!r}, dense_shape={self.shape})"


def sum_duplicates(values: Array | TensorLike, indices: Array | TensorLike) -> tuple[Array, Array]:
    """Sorts rows by index, and sums rows of the same index in their given order.

    Args:
        values: ``[n, ...]``.
        indices: ``[n]`` integers.

    Returns:
        ``(rows [k, ...], indices [k])``, indices strictly increasing.
    """
    rows, where = as_array(values), as_array(indices)
    unique, place = np.unique(where, return_inverse=True)
    if len(unique) == len(where):
        order = np.argsort(where, kind="stable")
        return rows[order], where[order]
    summed = np.zeros((len(unique), *rows.shape[1:]), rows.dtype)
    np.add.at(summed, place.reshape(-1), rows)
    return summed, unique
