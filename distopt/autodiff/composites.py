"""NumPy functions written with other NumPy functions, which is how their derivatives come about."""
# ruff: noqa: A002, ARG001 (the functions have the signatures of NumPy's)

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from distopt.autodiff import rules

__all__ = ["COMPOSITES"]

_given = np._NoValue


def _concatenate(arrays: Any, axis: Any = 0, dtype: Any = None, **_kwargs: Any) -> Any:
    if axis is None:
        arrays, axis = [np.ravel(a) for a in arrays], 0
    joined = rules.concatenate_args(axis, *arrays)
    return joined if dtype is None else joined.astype(dtype)


def _stack(arrays: Any, axis: int = 0, dtype: Any = None, **_kwargs: Any) -> Any:
    stacked = rules.stack_args(axis, *arrays)
    return stacked if dtype is None else stacked.astype(dtype)


def _vstack(arrays: Any, **kwargs: Any) -> Any:
    return np.concatenate([np.atleast_2d(a) for a in arrays], 0, **kwargs)


def _hstack(arrays: Any, **kwargs: Any) -> Any:
    arrays = [np.atleast_1d(a) for a in arrays]
    return np.concatenate(arrays, 0 if np.ndim(arrays[0]) == 1 else 1, **kwargs)


def _dstack(arrays: Any) -> Any:
    return np.concatenate([np.atleast_3d(a) for a in arrays], 2)


def _column_stack(arrays: Any) -> Any:
    return np.concatenate([a if np.ndim(a) > 1 else np.reshape(a, (-1, 1)) for a in arrays], 1)


def _append(array: Any, values: Any, axis: Any = None) -> Any:
    return np.concatenate([array, values], axis)


def _where(condition: Any, *choices: Any) -> Any:
    return rules.where3(condition, *choices) if choices else np.nonzero(condition)


def _clip(
    a: Any,
    a_min: Any = None,
    a_max: Any = None,
    *,
    min: Any = None,
    max: Any = None,
    **_kwargs: Any,
) -> Any:
    low = min if a_min is None or a_min is _given else a_min
    high = max if a_max is None or a_max is _given else a_max
    return rules.clip3(a, low, high)


def _var(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: bool = False
) -> Any:  # fmt: skip
    centred = a - np.mean(a, axis=axis, keepdims=True)
    squares = np.sum(np.real(centred * np.conj(centred)), axis=axis, keepdims=keepdims)
    return squares / float(np.size(a) / max(np.size(squares), 1) - ddof)


def _std(*args: Any, **kwargs: Any) -> Any:
    return np.sqrt(_var(*args, **kwargs))


def _ptp(a: Any, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
    return np.max(a, axis=axis, keepdims=keepdims) - np.min(a, axis=axis, keepdims=keepdims)


def _average(a: Any, axis: Any = None, weights: Any = None, *, keepdims: bool = False) -> Any:
    if weights is None:
        return np.mean(a, axis=axis, keepdims=keepdims)
    if np.shape(weights) != np.shape(a):
        shape = [1] * np.ndim(a)
        shape[axis] = -1
        weights = np.reshape(weights, shape)
    total = np.sum(weights + 0 * a, axis=axis, keepdims=keepdims)
    return np.sum(a * weights, axis=axis, keepdims=keepdims) / total


def _nansum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
    return np.sum(np.where(np.isnan(a), 0, a), axis=axis, keepdims=keepdims)


def _take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    if mode != "raise":
        raise TypeError(f"numpy.take(mode={mode!r}) cannot be followed by a tape: use mode='raise'")
    if axis is None:
        return np.ravel(a)[np.asarray(indices)]
    return a[(slice(None),) * (axis % np.ndim(a)) + (np.asarray(indices),)]


def _take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    if axis is None:
        return np.ravel(arr)[np.asarray(indices)]
    where = list(np.ogrid[tuple(slice(n) for n in np.shape(indices))])
    where[axis] = np.asarray(indices)
    return arr[tuple(where)]


def _repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    if axis is None:
        a, axis = np.ravel(a), 0
    return _take(a, np.repeat(np.arange(np.shape(a)[axis]), repeats), axis)


def _tile(a: Any, reps: Any) -> Any:
    times = tuple(reps) if isinstance(reps, (tuple, list)) else (int(reps),)
    rank = max(len(times), np.ndim(a))
    times = (1,) * (rank - len(times)) + times
    shape = (1,) * (rank - np.ndim(a)) + np.shape(a)
    apart = [n for size in shape for n in (1, size)]
    spread = [n for pair in zip(times, shape, strict=True) for n in pair]
    whole = np.broadcast_to(np.reshape(a, apart), tuple(spread))
    return np.reshape(whole, tuple(t * n for t, n in zip(times, shape, strict=True)))


def _sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, **_kwargs: Any) -> Any:
    if axis is None:
        a, axis = np.ravel(a), -1
    return _take_along_axis(a, np.argsort(a, axis=axis, kind=kind), axis)


def _diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    last = np.moveaxis(a, (axis1, axis2), (-2, -1))
    rows, columns = np.shape(last)[-2:]
    start, shift = max(-offset, 0), max(offset, 0)
    along = np.arange(max(min(rows - start, columns - shift), 0))
    return last[..., along + start, along + shift]


def _trace(
    a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None
) -> Any:
    return np.sum(_diagonal(a, offset, axis1, axis2), axis=-1)


def _diag(v: Any, k: int = 0) -> Any:
    if np.ndim(v) == 2:
        return _diagonal(v, k)
    size = np.shape(v)[0] + abs(k)
    return np.where(np.eye(size, k=k, dtype=bool), np.pad(v, (max(-k, 0), max(k, 0)))[:, None], 0)


def _pad(
    array: Any, pad_width: Any, mode: Any = "constant", *, constant_values: Any = 0, **kwargs: Any
) -> Any:
    if mode != "constant" or kwargs:
        raise TypeError(f"numpy.pad(mode={mode!r}) cannot be followed by a tape: use mode='constant'")
    return rules.pad2(array, pad_width, constant_values)


def _full_like(
    a: Any, fill_value: Any, dtype: Any = None, *_args: Any, shape: Any = None, **_kwargs: Any
) -> Any:
    full = np.broadcast_to(fill_value, np.shape(a) if shape is None else shape)
    return full.astype(a.dtype if dtype is None else dtype)


def _outer(a: Any, b: Any, out: Any = None) -> Any:
    return np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1))


def _vdot(a: Any, b: Any) -> Any:
    return np.sum(np.conj(np.ravel(a)) * np.ravel(b))


def _vecdot(a: Any, b: Any, axis: int = -1) -> Any:
    return np.sum(np.conj(a) * b, axis=axis)


def _matrix_transpose(x: Any) -> Any:
    return np.swapaxes(x, -1, -2)


#: NumPy function -> a function that does the same with others.
COMPOSITES: Mapping[Any, Callable[..., Any]] = MappingProxyType(
    {
        np.concatenate: _concatenate,
        np.stack: _stack,
        np.vstack: _vstack,
        np.hstack: _hstack,
        np.dstack: _dstack,
        np.column_stack: _column_stack,
        np.append: _append,
        np.where: _where,
        np.clip: _clip,
        np.var: _var,
        np.std: _std,
        np.ptp: _ptp,
        np.average: _average,
        np.nansum: _nansum,
        np.take: _take,
        np.take_along_axis: _take_along_axis,
        np.repeat: _repeat,
        np.tile: _tile,
        np.sort: _sort,
        np.diagonal: _diagonal,
        np.trace: _trace,
        np.diag: _diag,
        np.pad: _pad,
        np.full_like: _full_like,
        np.outer: _outer,
        np.vdot: _vdot,
        np.vecdot: _vecdot,
        np.matrix_transpose: _matrix_transpose,
    }
)
