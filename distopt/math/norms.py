"""Norms and clips, as in TensorFlow 2.4.

The gradient of a norm is 0 where the norm is 0, not NaN.
"""
# ruff: noqa: A002, ARG001 (TensorFlow's functions take a name, which means nothing here)

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from distopt.core.indexed_slices import IndexedSlices
from distopt.core.numbers import as_clip
from distopt.core.tensor import TensorLike
from distopt.math.functions import as_axes, as_tensor

__all__ = ["clip_by_global_norm", "clip_by_norm", "clip_by_value", "global_norm", "norm"]

_EUCLIDEAN = ("euclidean", "fro", 2)


def norm(
    tensor: Any,
    ord: Any = "euclidean",
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
) -> Any:
    """Computes a norm of vectors or matrices.

    Args:
        tensor: numbers.
        ord: ``"euclidean"`` or ``"fro"``, ``1``, ``2`` or ``np.inf``; for vectors, any number above 0. For
            matrices, 1 and ``np.inf`` are the largest sums of columns and rows, and 2 is the largest
            singular value.
        axis: None for all elements as one vector, an axis of vectors, or two axes of matrices.
        keepdims: whether to keep these axes, with length 1.
        name: accepted and ignored.

    Raises:
        ValueError: ``ord`` is unknown, or the axes are invalid.
    """
    x, axes = as_tensor(tensor), as_axes(axis)
    keep = bool(keepdims)
    if isinstance(axes, tuple):
        if len(axes) != 2 or axes[0] % x.ndim == axes[1] % x.ndim:
            raise ValueError(f"'axis' must be None, an integer, or a tuple of 2 unique integers, got {axis}")
        return _matrix_norm(x, ord, (axes[0] % x.ndim, axes[1] % x.ndim), keep)
    if isinstance(ord, str) or not np.isreal(ord):
        if ord not in _EUCLIDEAN:
            raise ValueError(f"'ord' must be 'euclidean', 'fro' or a number above 0 for vectors, got {ord!r}")
    elif not ord > 0:
        raise ValueError(f"'ord' must be above 0 for vectors, got {ord}")
    if ord in _EUCLIDEAN:
        return _root(_squares(x, axes, keep))
    if ord == 1:
        return np.sum(np.abs(x), axis=axes, keepdims=keep)
    if ord == np.inf:
        return np.max(np.abs(x), axis=axes, keepdims=keep)
    return _root(np.sum(_power(np.abs(x), float(ord)), axis=axes, keepdims=keep), 1.0 / float(ord))


def _matrix_norm(x: Any, ord: Any, axes: tuple[int, int], keep: bool) -> Any:
    row, column = axes
    if ord in ("euclidean", "fro"):
        return _root(_squares(x, axes, keep))
    if ord == 2:
        matrices = np.moveaxis(x, axes, (-2, -1))
        largest = np.max(np.linalg.svd(matrices, compute_uv=False), axis=-1)
        return np.expand_dims(largest, tuple(sorted(axes))) if keep else largest
    if ord not in (1, np.inf):
        raise ValueError(f"'ord' must be 'euclidean', 'fro', 1, 2 or np.inf for matrices, got {ord!r}")
    summed, searched = (row, column) if ord == 1 else (column, row)
    largest = np.max(np.sum(np.abs(x), axis=summed, keepdims=True), axis=searched, keepdims=True)
    return largest if keep else np.squeeze(largest, axis=axes)


def global_norm(t_list: Any, name: str | None = None) -> Any:
    """Computes the joint euclidean norm of several tensors or IndexedSlices. None is ignored."""
    values = [_values(t) for t in _several(t_list) if t is not None]
    if not values:
        return as_tensor(0.0)
    total = _squares(values[0], None, False)
    for value in values[1:]:
        total = total + _squares(value, None, False)
    return _root(total)


def clip_by_global_norm(
    t_list: Any, clip_norm: Any, use_norm: Any = None, name: str | None = None
) -> tuple[list[Any], Any]:
    """Scales several tensors by the same factor if their joint norm is above ``clip_norm``.

    Args:
        t_list: a list of tensors, IndexedSlices or None, which remains None.
        clip_norm: a number.
        use_norm: their norm, if you know it.
        name: accepted and ignored.

    Returns:
        ``(clipped, norm)``: a list of tensors, all NaN if the norm is not finite, and the norm before
        clipping.

    Raises:
        TypeError: ``t_list`` is not a list.
        ValueError: ``clip_norm`` is NaN or infinite.
    """
    as_clip(clip_norm, "clip_norm")
    items = _several(t_list)
    total = global_norm(items) if use_norm is None else as_tensor(use_norm)
    with np.errstate(all="ignore"):
        size = np.where(np.greater(total, 0), total, 1)
        scale = clip_norm * np.minimum(1 / size, 1 / _like(clip_norm, total))
        scale = np.where(np.isfinite(total), scale, np.nan) if clip_norm else np.zeros_like(total)
    return [None if t is None else _mapped(lambda v: v * _like(scale, v), t) for t in items], total


def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None, name: str | None = None) -> Any:
    """Scales ``t`` to the euclidean norm ``clip_norm`` if its norm is above that.

    Args:
        t: a tensor, or IndexedSlices, whose rows are clipped as given.
        clip_norm: a number.
        axes: the axes over which to compute the norm; all by default.
        name: accepted and ignored.

    Raises:
        ValueError: ``clip_norm`` is NaN or infinite.
    """
    as_clip(clip_norm, "clip_norm")

    def clipped(values: Any) -> Any:
        bound = _like(clip_norm, values)
        size = np.maximum(_root(_squares(values, as_axes(axes), True)), bound)
        return values * bound / np.where(np.greater(size, 0), size, 1)

    return _mapped(clipped, t)


def clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any, name: str | None = None) -> Any:
    """Clips every element of ``t``, a tensor or IndexedSlices, to ``[clip_value_min, clip_value_max]``."""
    return _mapped(lambda v: np.clip(v, _like(clip_value_min, v), _like(clip_value_max, v)), t)


def _squares(x: Any, axes: Any, keep: bool) -> Any:
    squares = np.real(x * np.conj(x)) if x.dtype.kind == "c" else x * x
    return np.sum(squares, axis=axes, keepdims=keep)


def _root(total: Any, power: float = 0.5) -> Any:
    """``total ** power``, whose derivative at 0 is 0."""
    total = total if isinstance(total, TensorLike) else as_tensor(total)
    positive = np.greater(total, 0)
    safe = np.where(np.logical_or(positive, np.isnan(total)), total, _like(1, total))
    root = np.sqrt(safe) if power == 0.5 else safe**power
    return np.where(np.asarray(np.equal(total, 0)), _like(0, total), root)


def _power(x: Any, power: float) -> Any:
    """``x ** power`` of numbers of at least 0; its derivative at 0 is 0."""
    positive = np.asarray(np.not_equal(x, 0))
    return np.where(positive, np.where(positive, x, _like(1, x)) ** power, _like(0, x))


def _like(number: Any, values: Any) -> Any:
    """A number in the dtype of ``values``; of tensors only those of numbers keep their place on a tape."""
    if isinstance(number, TensorLike):
        return number if number.dtype == values.dtype else number.astype(values.dtype)
    return np.asarray(number, values.dtype if values.dtype.kind in "fc" else None)


def _several(t_list: Any) -> list[Any]:
    if isinstance(t_list, (str, bytes, dict, TensorLike, np.ndarray)) or not isinstance(t_list, Iterable):
        raise TypeError(f"t_list should be a list of tensors; got {type(t_list).__name__}")
    return list(t_list)


def _values(t: Any) -> Any:
    return as_tensor(t.values if isinstance(t, IndexedSlices) else t)


def _mapped(function: Callable[[Any], Any], t: Any) -> Any:
    """``function`` of a tensor, or of the rows of IndexedSlices."""
    if isinstance(t, IndexedSlices):
        return IndexedSlices(function(as_tensor(t.values)), t.indices, t.dense_shape)
    return function(as_tensor(t))
