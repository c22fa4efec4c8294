"""Derivatives that stand in for autograd's own.

Each is here for one of three reasons: autograd has none, its rule fails for some arguments that
NumPy takes (broadcasting ``where``, ``clip`` with one bound, negative axes), or it is slow or widens
float32. Rules call NumPy on whatever they get, so that they can be differentiated again.
"""
# ruff: noqa: ARG001, ARG005 (rules have the signature of the function that they belong to)

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from autograd.extend import SparseObject, defvjp, defvjp_argnum, primitive, vspace

from distopt.typing import Array

__all__ = [
    "astype",
    "clip3",
    "concatenate_args",
    "expand",
    "getitem",
    "pad2",
    "rules",
    "stack_args",
    "sum_to",
]

# Filled while this module is imported, and never after.
_rules: dict[Any, Any] = {}


def rules() -> Mapping[Any, Any]:
    """NumPy function -> autograd primitive."""
    return _rules


def _rule(function: Any, *vjps: Any) -> Any:
    """Gives a NumPy function a second primitive; autograd.numpy keeps the first."""
    wrapped = _rules[function] = primitive(function)
    defvjp(wrapped, *vjps)
    return wrapped


def _own(function: Callable[..., Any], *vjps: Any) -> Any:
    wrapped = primitive(function)
    defvjp(wrapped, *vjps)
    return wrapped


# -- broadcasting
def sum_to(value: Any, target: Any) -> Any:
    """The cotangent of ``target`` when NumPy broadcast it to the shape of ``value``."""
    shape = getattr(target, "shape", ())
    if value.shape != shape:
        lead = value.ndim - len(shape)
        axes = [i + lead for i, n in enumerate(shape) if n == 1 and value.shape[i + lead] != 1]
        value = np.reshape(np.sum(value, axis=(*range(lead), *axes)), shape)
    if value.dtype.kind == "c" and not np.iscomplexobj(target):
        value = np.real(value)
    return value


def _expand(value: Any, shape: tuple[int, ...]) -> Array:
    # A copy: products of matrices are slow on arrays with stride 0.
    return np.array(np.broadcast_to(value, shape))


expand = _own(_expand, lambda _ans, x, _shape: lambda g: sum_to(g, x))


def _spread(value: Any, shape: tuple[int, ...], axis: Any) -> Any:
    """A reduction's result (or its cotangent) laid out over what was reduced."""
    if not shape:
        return value
    if axis is None:
        kept: tuple[int, ...] = (1,) * len(shape)
    else:
        gone = {n % len(shape) for n in (axis if isinstance(axis, tuple) else (axis,))}
        kept = tuple(1 if i in gone else n for i, n in enumerate(shape))
    return expand(np.reshape(value, kept), shape)


def _broadcast_to_vjp(_ans: Any, x: Any, _shape: Any, subok: bool = False) -> Any:
    return lambda g: sum_to(g, x)


_rule(np.broadcast_to, _broadcast_to_vjp)

# -- elementwise
_rule(np.add, lambda _ans, x, y: lambda g: sum_to(g, x), lambda _ans, x, y: lambda g: sum_to(g, y))
_rule(np.subtract, lambda _ans, x, y: lambda g: sum_to(g, x), lambda _ans, x, y: lambda g: sum_to(-g, y))
_rule(
    np.multiply, lambda _ans, x, y: lambda g: sum_to(g * y, x), lambda _ans, x, y: lambda g: sum_to(g * x, y)
)
_rule(
    np.divide,
    lambda _ans, x, y: lambda g: sum_to(g / y, x),
    lambda ans, x, y: lambda g: sum_to(-g * ans / y, y),
)
_rule(np.positive, lambda _ans, x: lambda g: g)
_rule(np.copy, lambda _ans, x, *_args, **_kwargs: lambda g: g)
_rule(np.tanh, lambda ans, x: lambda g: g * (1 - ans * ans))
_rule(np.sqrt, lambda ans, x: lambda g: g * 0.5 / ans)
_rule(np.cbrt, lambda ans, x: lambda g: g / (3 * ans * ans))
_rule(np.square, lambda _ans, x: lambda g: g * (2 * x))


def _abs_vjp(ans: Any, x: Any) -> Any:
    if np.iscomplexobj(x):
        return lambda g: g * np.conj(x) / np.where(ans, ans, 1)
    return lambda g: g * np.asarray(np.sign(x))


_rule(np.absolute, _abs_vjp)
_rule(np.fabs, lambda _ans, x: lambda g: g * np.asarray(np.sign(x)))


def _choice_vjps(taken: Any) -> tuple[Any, Any]:
    def weight(mine: Any, other: Any, dtype: Any) -> Any:
        one = np.asarray(taken(mine, other), dtype)
        return one + np.asarray(np.equal(mine, other), dtype) / dtype.type(2)

    return (
        lambda ans, x, y: lambda g: sum_to(g * weight(x, y, ans.dtype), x),
        lambda ans, x, y: lambda g: sum_to(g * weight(y, x, ans.dtype), y),
    )


_rule(np.maximum, *_choice_vjps(np.greater))
_rule(np.minimum, *_choice_vjps(np.less))


def _power_base_vjp(_ans: Any, x: Any, y: Any) -> Any:
    if isinstance(y, (int, float)):
        if y == 2:
            return lambda g: g * (2 * x)
        return lambda g: g * (y * x ** (y - 1)) if y else g * 0
    # Nothing but 0 to the power 0 must be kept from becoming 0 to the power -1.
    zeros = np.logical_and(np.equal(x, 0), np.equal(y, 0))
    return lambda g: sum_to(g * y * x ** np.where(zeros, 1, y - 1), x)


def _power_exponent_vjp(ans: Any, x: Any, y: Any) -> Any:
    return lambda g: sum_to(g * ans * np.log(np.where(np.equal(x, 0), 1, x)), y)


_rule(np.power, _power_base_vjp, _power_exponent_vjp)


def _where(condition: Any, x: Any, y: Any) -> Any:
    return np.where(condition, x, y)


where3 = _own(
    _where,
    None,
    lambda _ans, c, x, y: lambda g: sum_to(np.where(c, g, 0), x),
    lambda _ans, c, x, y: lambda g: sum_to(np.where(c, 0, g), y),
)


def _clip(x: Any, low: Any, high: Any) -> Any:
    return np.clip(x, low, high)


def _inside(x: Any, low: Any, high: Any) -> Any:
    inside = True if low is None else np.greater_equal(x, low)
    return inside if high is None else np.logical_and(inside, np.less_equal(x, high))


clip3 = _own(
    _clip,
    lambda _ans, x, low, high: lambda g: sum_to(g * np.asarray(_inside(x, low, high)), x),
    lambda _ans, x, low, high: lambda g: sum_to(g * np.asarray(np.less(x, low)), low),
    lambda _ans, x, low, high: lambda g: sum_to(g * np.asarray(np.greater(x, high)), high),
)


# -- reductions
def _refuse(name: str, **given: Any) -> None:
    for key, value in given.items():
        if value is not None and value is not np._NoValue:
            raise NotImplementedError(f"numpy.{name} with {key}=")


def _sum_vjp(
    _ans: Any, x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False,
    initial: Any = None, where: Any = None,
) -> Any:  # fmt: skip
    shape = np.shape(x)
    if where is None or where is True:
        return lambda g: _spread(g, shape, axis)
    return lambda g: np.where(where, _spread(g, shape, axis), 0)


def _mean_vjp(
    ans: Any, x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False,
    *, where: Any = None,
) -> Any:  # fmt: skip
    _refuse("mean", where=where)
    shape = np.shape(x)
    count = float(np.size(x) / max(np.size(ans), 1))
    return lambda g: _spread(g / count, shape, axis)


def _extreme_vjp(
    ans: Any, x: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None,
    where: Any = None,
) -> Any:  # fmt: skip
    _refuse("max or min", initial=initial, where=where)
    shape = np.shape(x)

    def vjp(g: Any) -> Any:
        hit = np.asarray(np.equal(x, _spread(ans, shape, axis)), x.dtype)
        return _spread(g, shape, axis) * (hit / np.sum(hit, axis=axis, keepdims=True))

    return vjp


def _prod_vjp(
    ans: Any, x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False,
    initial: Any = None, where: Any = None,
) -> Any:  # fmt: skip
    _refuse("prod", initial=initial, where=where)
    shape = np.shape(x)

    def vjp(g: Any) -> Any:
        if np.all(x):
            return _spread(g * ans, shape, axis) / x
        return _spread(g, shape, axis) * _product_of_others(x, axis)

    return vjp


def _product_of_others(x: Any, axis: Any) -> Any:
    """For each element the product of the others along ``axis``, right where some are zero."""
    if axis is None or isinstance(axis, tuple):
        axes = range(np.ndim(x)) if axis is None else sorted(n % np.ndim(x) for n in axis)
        order = [*(n for n in range(np.ndim(x)) if n not in axes), *axes]
        moved = np.transpose(x, order)
        lead = moved.shape[: len(order) - len(axes)]
        others = _product_of_others(np.reshape(moved, (*lead, -1)), -1)
        return np.transpose(np.reshape(others, moved.shape), tuple(int(n) for n in np.argsort(order)))
    rows = np.moveaxis(x, axis, 0)
    before, after = [np.ones_like(rows[0])], [np.ones_like(rows[0])]
    for i in range(len(rows) - 1):
        before.append(before[-1] * rows[i])
        after.append(after[-1] * rows[len(rows) - 1 - i])
    return np.moveaxis(np.stack([b * a for b, a in zip(before, reversed(after), strict=True)]), 0, axis)


def _cumsum_vjp(_ans: Any, x: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    shape = np.shape(x)
    along = 0 if axis is None else axis
    return lambda g: np.reshape(np.flip(np.cumsum(np.flip(g, along), along), along), shape)


_rule(np.sum, _sum_vjp)
_rule(np.mean, _mean_vjp)
for _extreme in (np.max, np.min, np.amax, np.amin):
    _rule(_extreme, _extreme_vjp)
_rule(np.prod, _prod_vjp)
_rule(np.cumsum, _cumsum_vjp)


# -- products of matrices
def _swap(x: Any) -> Any:
    return np.swapaxes(x, -1, -2)


def _matmul_left_vjp(_ans: Any, a: Any, b: Any) -> Any:
    left, right = np.ndim(a), np.ndim(b)
    if right == 1:
        return lambda g: sum_to(np.expand_dims(g, -1) * b, a)
    if left == 1:
        return lambda g: sum_to(np.matmul(b, np.expand_dims(g, -1))[..., 0], a)
    return lambda g: sum_to(np.matmul(g, _swap(b)), a)


def _matmul_right_vjp(_ans: Any, a: Any, b: Any) -> Any:
    left, right = np.ndim(a), np.ndim(b)
    if left == 1:
        return lambda g: sum_to(np.expand_dims(g, -2) * a[:, None] if right > 1 else g * a, b)
    if right == 1:
        return lambda g: sum_to(np.matmul(_swap(a), np.expand_dims(g, -1))[..., 0], b)
    return lambda g: sum_to(np.matmul(_swap(a), g), b)


def _matmul_vjp(argnum: int, ans: Any, args: Any, kwargs: Any) -> Any:
    return (_matmul_right_vjp if argnum else _matmul_left_vjp)(ans, *args, **kwargs)


_rules[np.matmul] = primitive(np.matmul)
defvjp_argnum(_rules[np.matmul], _matmul_vjp)  # which computes one after the other


# -- moving elements
def _transpose_vjp(_ans: Any, x: Any, axes: Any = None) -> Any:
    back = None if axes is None else tuple(int(n) for n in np.argsort([n % np.ndim(x) for n in axes]))
    return lambda g: np.transpose(g, back)


def _roll_vjp(_ans: Any, x: Any, shift: Any, axis: Any = None) -> Any:
    back = tuple(-n for n in shift) if isinstance(shift, (tuple, list)) else -shift
    return lambda g: np.roll(g, back, axis)


_rule(np.transpose, _transpose_vjp)
_rule(np.roll, _roll_vjp)
_rule(np.flip, lambda _ans, m, axis=None: lambda g: np.flip(g, axis))


def _pad(x: Array, width: Any, value: Any) -> Array:
    return np.pad(x, width, constant_values=value)


def _pad_vjp(_ans: Any, x: Any, width: Any, value: Any) -> Any:
    ends = np.broadcast_to(np.asarray(width), (np.ndim(x), 2))
    inside = tuple(slice(int(a), int(a) + n) for (a, _), n in zip(ends, np.shape(x), strict=True))
    return lambda g: g[inside]


pad2 = _own(_pad, _pad_vjp)


def _astype(x: Any, dtype: Any, copy: bool = True, device: Any = None) -> Any:
    return x.astype(dtype)


astype = _own(_astype, lambda _ans, x, _dtype, **_kwargs: lambda g: g.astype(x.dtype))
_rules[np.astype] = astype


def _stack_args(axis: int, *arrays: Array) -> Array:
    return np.stack(arrays, axis)


def _stack_args_vjp(argnum: int, ans: Any, args: Any, _kwargs: Any) -> Any:
    index = (slice(None),) * (args[0] % ans.ndim) + (argnum - 1,)
    return lambda g: g[index]


def _concatenate_args(axis: int, *arrays: Array) -> Array:
    return np.concatenate(arrays, axis)


def _concatenate_args_vjp(argnum: int, ans: Any, args: Any, _kwargs: Any) -> Any:
    axis = args[0] % ans.ndim
    start = sum(np.shape(a)[axis] for a in args[1:argnum])
    index = (slice(None),) * axis + (slice(start, start + np.shape(args[argnum])[axis]),)
    return lambda g: g[index]


stack_args = primitive(_stack_args)
defvjp_argnum(stack_args, _stack_args_vjp)
concatenate_args = primitive(_concatenate_args)
defvjp_argnum(concatenate_args, _concatenate_args_vjp)


# -- indexing
def _getitem(x: Any, index: Any) -> Any:
    return x[index]


def _is_basic(index: Any) -> bool:
    items = index if isinstance(index, tuple) else (index,)
    return all(item is None or item is Ellipsis or type(item) in (int, slice) for item in items)


def _untake(cotangent: Any, index: Any, space: Any) -> SparseObject:
    """The cotangent of an indexed array, to be added where the others are."""

    def add(total: Array) -> Array:
        if _is_basic(index):
            total[index] += cotangent
        else:
            np.add.at(total, index, cotangent)
        return total

    return SparseObject(space, add)


untake = primitive(_untake)
defvjp(untake, lambda _ans, _g, index, _space: lambda g: g[index])
getitem = _own(_getitem, lambda _ans, x, index: lambda g: untake(g, index, vspace(x)))
