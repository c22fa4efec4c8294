"""Functions of tensors, by the names of ``keras.backend``: over NumPy's, so tapes follow them."""
# ruff: noqa: A001 (names of Keras that are Python's, too)

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distopt.autodiff import stop_gradient
from distopt.core.floatx import floatx
from distopt.core.tensor import as_array
from distopt.keras.values import tensor
from distopt.typing import DTypeLike

__all__ = [
    "abs",
    "all",
    "any",
    "argmax",
    "argmin",
    "batch_flatten",
    "cast",
    "clip",
    "concatenate",
    "dot",
    "equal",
    "exp",
    "expand_dims",
    "flatten",
    "greater",
    "greater_equal",
    "l2_normalize",
    "less",
    "less_equal",
    "log",
    "logsumexp",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "not_equal",
    "one_hot",
    "permute_dimensions",
    "pow",
    "prod",
    "repeat_elements",
    "reshape",
    "round",
    "sign",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "stop_gradient",
    "sum",
    "switch",
    "transpose",
    "var",
]

_EPSILON = 1e-12


def _numbers(x: Any) -> Any:
    """``x`` as a tensor; Booleans, as comparisons give them, are numbers."""
    x = tensor(x)
    return x.astype(floatx()) if x.dtype.kind == "b" else x


def _reduction(function: Any, name: str, what: str, of: Any = _numbers) -> Callable[..., Any]:
    def reduce(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        axis = tuple(axis) if isinstance(axis, list) else axis
        return function(of(x), axis=axis, keepdims=keepdims)

    return _named(reduce, name, f"{what} over ``axis``: a number, several, or all by default.")


def _elementwise(function: Any, name: str, what: str) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        return function(tensor(x))

    return _named(call, name, f"{what} of each element.")


def _comparison(function: Any, name: str, sign: str) -> Callable[..., Any]:
    def call(x: Any, y: Any) -> Any:
        return tensor(function(as_array(x), as_array(y)))

    return _named(call, name, f"Whether ``x {sign} y``, element by element.")


def _named(function: Callable[..., Any], name: str, doc: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


sum = _reduction(np.sum, "sum", "The sum")
mean = _reduction(np.mean, "mean", "The mean")
max = _reduction(np.max, "max", "The largest element")
min = _reduction(np.min, "min", "The smallest element")
prod = _reduction(np.prod, "prod", "The product")
var = _reduction(np.var, "var", "The variance")
std = _reduction(np.std, "std", "The standard deviation")
any = _reduction(np.any, "any", "Whether some element is not zero,", as_array)
all = _reduction(np.all, "all", "Whether no element is zero,", as_array)

abs = _elementwise(np.abs, "abs", "The absolute value")
exp = _elementwise(np.exp, "exp", "The exponential")
log = _elementwise(np.log, "log", "The natural logarithm")
round = _elementwise(np.round, "round", "The nearest whole number, the even one of two,")
sign = _elementwise(np.sign, "sign", "The sign")
square = _elementwise(np.square, "square", "The square")

equal = _comparison(np.equal, "equal", "==")
not_equal = _comparison(np.not_equal, "not_equal", "!=")
greater = _comparison(np.greater, "greater", ">")
greater_equal = _comparison(np.greater_equal, "greater_equal", ">=")
less = _comparison(np.less, "less", "<")
less_equal = _comparison(np.less_equal, "less_equal", "<=")


def sqrt(x: Any) -> Any:
    """The square root of each element, 0 for negative ones."""
    return np.sqrt(np.maximum(tensor(x), 0))


def pow(x: Any, a: Any) -> Any:
    """``x`` to the power of ``a``."""
    return np.power(tensor(x), a)


def maximum(x: Any, y: Any) -> Any:
    """The elementwise maximum."""
    return np.maximum(tensor(x), y)


def minimum(x: Any, y: Any) -> Any:
    """The elementwise minimum."""
    return np.minimum(tensor(x), y)


def clip(x: Any, min_value: Any, max_value: Any) -> Any:
    """``x`` clipped to ``[min_value, max_value]``. None means no limit."""
    return np.clip(tensor(x), min_value, max_value)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """``log(sum(exp(x)))``, without overflow."""
    x, axis = tensor(x), tuple(axis) if isinstance(axis, list) else axis
    largest = np.max(as_array(x), axis=axis, keepdims=True)
    total = np.log(np.sum(np.exp(x - largest), axis=axis, keepdims=True)) + largest
    return total if keepdims else np.squeeze(total, axis=axis)


def l2_normalize(x: Any, axis: Any = None) -> Any:
    """``x`` divided by its L2 norm along ``axis``."""
    x = tensor(x)
    return x / np.sqrt(np.maximum(np.sum(np.square(x), axis=axis, keepdims=True), _EPSILON))


def cast(x: Any, dtype: DTypeLike) -> Any:
    """Casts ``x`` to another dtype. Gradients flow between floating dtypes only."""
    return tensor(x).astype(dtype)


def argmax(x: Any, axis: int = -1) -> Any:
    """The index of the largest element along ``axis``."""
    return tensor(np.argmax(as_array(x), axis=axis))


def argmin(x: Any, axis: int = -1) -> Any:
    """The index of the smallest element along ``axis``."""
    return tensor(np.argmin(as_array(x), axis=axis))


def dot(x: Any, y: Any) -> Any:
    """The product over the last axis of ``x`` and the last but one of ``y``."""
    return np.dot(tensor(x), tensor(y))


def one_hot(indices: Any, num_classes: int) -> Any:
    """One-hot vectors along a new last axis; all zeros for an index out of range."""
    wanted = as_array(indices)[..., None] == np.arange(num_classes)
    return tensor(wanted.astype(np.float32))


def switch(condition: Any, then_expression: Any, else_expression: Any) -> Any:
    """Selects elements by ``condition``, which has their shape or their first axes."""
    then, other = (e() if callable(e) else e for e in (then_expression, else_expression))
    then, which = tensor(then), as_array(condition)
    missing = then.ndim - which.ndim
    return np.where(which[(..., *[None] * missing)] if missing > 0 else which, then, other)


# -- shapes
def reshape(x: Any, shape: Sequence[int]) -> Any:
    """Reshapes ``x``."""
    return np.reshape(tensor(x), tuple(int(n) for n in shape))


def flatten(x: Any) -> Any:
    """Reshapes ``x`` to one axis."""
    return np.reshape(tensor(x), (-1,))


def batch_flatten(x: Any) -> Any:
    """Reshapes ``x`` to two axes and keeps the first."""
    x = tensor(x)
    return np.reshape(x, (x.shape[0], int(np.prod(x.shape[1:]))))


def expand_dims(x: Any, axis: int = -1) -> Any:
    """``x`` with a new axis of length 1."""
    return np.expand_dims(tensor(x), axis)


def squeeze(x: Any, axis: int) -> Any:
    """``x`` without an axis of length 1."""
    return np.squeeze(tensor(x), axis)


def transpose(x: Any) -> Any:
    """``x`` with its axes in reverse order."""
    return np.transpose(tensor(x))


def permute_dimensions(x: Any, pattern: Sequence[int]) -> Any:
    """``x`` with its axes in another order."""
    return np.transpose(tensor(x), tuple(pattern))


def concatenate(tensors: Sequence[Any], axis: int = -1) -> Any:
    """Concatenates tensors along ``axis``."""
    return np.concatenate([tensor(x) for x in tensors], axis=axis)


def stack(x: Sequence[Any], axis: int = 0) -> Any:
    """Stacks tensors along a new axis."""
    return np.stack([tensor(one) for one in x], axis=axis)


def repeat_elements(x: Any, rep: int, axis: int) -> Any:
    """Repeats each element ``rep`` times along ``axis``."""
    return np.repeat(tensor(x), rep, axis=axis)
