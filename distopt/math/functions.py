"""Element-wise functions, reductions and products, as thin wrappers of NumPy."""
# ruff: noqa: ARG001 (TensorFlow's functions take a name, which means nothing here)

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from distopt.autodiff import defvjp, primitive
from distopt.core.tensor import TensorLike, as_array, convert_to_tensor
from distopt.typing import Array, DTypeLike

__all__ = [
    "abs",
    "add",
    "argmax",
    "argmin",
    "as_axes",
    "as_tensor",
    "cast",
    "cos",
    "divide",
    "equal",
    "exp",
    "greater",
    "less",
    "log",
    "matmul",
    "maximum",
    "minimum",
    "multiply",
    "ones",
    "pow",
    "reduce_max",
    "reduce_mean",
    "reduce_min",
    "reduce_prod",
    "reduce_sum",
    "sigmoid",
    "sin",
    "softplus",
    "sqrt",
    "square",
    "subtract",
    "tanh",
    "zeros",
]


def as_tensor(value: Any) -> Any:
    """``value`` as something that tapes can follow."""
    return value if isinstance(value, TensorLike) else convert_to_tensor(value)


def as_axes(axis: Any) -> Any:
    """None, one axis, or a tuple of them, as NumPy takes them."""
    if isinstance(axis, (np.ndarray, TensorLike)):
        axis = as_array(axis).tolist()
    return tuple(map(operator.index, axis)) if isinstance(axis, (list, tuple)) else axis


def _pair(x: Any, y: Any) -> tuple[Any, Any]:
    """Both as they are if one is a tensor, which then decides the dtype of numbers; else as tensors."""
    if isinstance(x, TensorLike) or isinstance(y, TensorLike):
        return x, y
    return as_tensor(x), as_tensor(y)


def _reduction(function: Any, what: str) -> Callable[..., Any]:
    def reduce(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Any:
        return function(as_tensor(input_tensor), axis=as_axes(axis), keepdims=bool(keepdims))

    reduce.__name__ = reduce.__qualname__ = f"reduce_{function.__name__}"
    reduce.__doc__ = f"The {what} over ``axis`` (an int, several, or all by default)."
    return reduce


def _unary(function: Any, name: str, what: str) -> Callable[..., Any]:
    def elementwise(x: Any, name: str | None = None) -> Any:
        return function(as_tensor(x))

    elementwise.__name__ = elementwise.__qualname__ = name
    elementwise.__doc__ = f"{what}, elementwise."
    return elementwise


def _binary(function: Any, name: str, what: str) -> Callable[..., Any]:
    def elementwise(x: Any, y: Any, name: str | None = None) -> Any:
        return function(*_pair(x, y))

    elementwise.__name__ = elementwise.__qualname__ = name
    elementwise.__doc__ = f"{what}, elementwise with broadcasting."
    return elementwise


@primitive
def _sigmoid(x: Array) -> Array:
    # Only exponentials of negative numbers: exp(-1000) is 0, exp(1000) would overflow.
    decay = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, decay) / (1 + decay))


@primitive
def _softplus(x: Array) -> Array:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


defvjp(_sigmoid, lambda ans, _x: lambda g: g * ans * (1 - ans))
defvjp(_softplus, lambda _ans, x: lambda g: g * _sigmoid(x))

reduce_sum = _reduction(np.sum, "sum")
reduce_mean = _reduction(np.mean, "mean")
reduce_max = _reduction(np.max, "largest element")
reduce_min = _reduction(np.min, "smallest element")
reduce_prod = _reduction(np.prod, "product")

abs = _unary(np.abs, "abs", "The absolute value")  # noqa: A001
cos = _unary(np.cos, "cos", "The cosine")
exp = _unary(np.exp, "exp", "e to the power of x")
log = _unary(np.log, "log", "The natural logarithm")
sigmoid = _unary(_sigmoid, "sigmoid", "1 / (1 + exp(-x))")
sin = _unary(np.sin, "sin", "The sine")
softplus = _unary(_softplus, "softplus", "log(1 + exp(x))")
sqrt = _unary(np.sqrt, "sqrt", "The square root")
square = _unary(np.square, "square", "x * x")
tanh = _unary(np.tanh, "tanh", "The hyperbolic tangent")

add = _binary(np.add, "add", "x + y")
divide = _binary(np.divide, "divide", "x / y")
equal = _binary(np.equal, "equal", "Whether x == y")
greater = _binary(np.greater, "greater", "Whether x > y")
less = _binary(np.less, "less", "Whether x < y")
maximum = _binary(np.maximum, "maximum", "The larger of x and y")
minimum = _binary(np.minimum, "minimum", "The smaller of x and y")
multiply = _binary(np.multiply, "multiply", "x * y")
pow = _binary(np.power, "pow", "x to the power of y")  # noqa: A001
subtract = _binary(np.subtract, "subtract", "x - y")


def matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    """Returns the matrix product ``[..., n, k] @ [..., k, m]``, optionally with transposed matrices."""
    a, b = _pair(a, b)
    a = np.swapaxes(a, -1, -2) if transpose_a else a
    return np.matmul(a, np.swapaxes(b, -1, -2) if transpose_b else b)


def argmax(input: Any, axis: int | None = None) -> Any:  # noqa: A002 (TensorFlow's name)
    """Returns the index of the largest element along ``axis``, the first axis by default; int64."""
    return np.argmax(as_tensor(input), axis=0 if axis is None else axis)


def argmin(input: Any, axis: int | None = None) -> Any:  # noqa: A002 (TensorFlow's name)
    """Returns the index of the smallest element along ``axis``, the first axis by default; int64."""
    return np.argmin(as_tensor(input), axis=0 if axis is None else axis)


def cast(x: Any, dtype: DTypeLike, name: str | None = None) -> Any:
    """Converts ``x`` to another dtype. Gradients pass only between floating dtypes."""
    return as_tensor(x).astype(dtype)


def ones(shape: Any, dtype: DTypeLike = np.float32) -> Any:
    """Returns a tensor of ones."""
    return convert_to_tensor(np.ones(shape, dtype))


def zeros(shape: Any, dtype: DTypeLike = np.float32) -> Any:
    """Returns a tensor of zeros."""
    return convert_to_tensor(np.zeros(shape, dtype))
