"""TensorLike, the base class of variables, tensors and traced values; and Tensor."""

from __future__ import annotations

import math
import operator
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from distopt.core import dispatch
from distopt.core.checks import as_dtype, as_shape, shown
from distopt.core.floating_point import MAY_WARN, warnings_at_caller
from distopt.core.foreign import detached, readable
from distopt.typing import Array, DTypeLike

__all__ = [
    "Tensor",
    "TensorLike",
    "array_of",
    "as_array",
    "astype",
    "constant",
    "convert_to_tensor",
    "native",
    "run_eager",
    "to_tensors",
    "unwrap",
]


#: The most frequent types of operands besides tensors, which need no conversion.
_PLAIN = frozenset({np.ndarray, int, float, np.float32, np.float64})


class TensorLike(NDArrayOperatorsMixin):
    """The base of values that NumPy functions and operators accept and tapes can record.

    It has operators, indexing, NumPy's functions and common array methods. Subclasses
    return their array in :meth:`_array`.
    """

    __slots__ = ()
    __array_priority__ = 200.0

    @abstractmethod
    def _array(self) -> Array:
        """The value as a plain array, not copied."""

    def numpy(self) -> Any:
        """Returns the value as a NumPy array, or as a NumPy scalar for shape ()."""
        value = self._array()
        return value[()] if value.ndim == 0 else value

    # -- NumPy's protocols
    def __array__(self, dtype: DTypeLike = None, copy: bool | None = None) -> Array:
        value = self._array()
        if dtype is not None and value.dtype != np.dtype(dtype):
            return value.astype(dtype)
        if copy:
            return value.copy()
        view = value.view()
        view.flags.writeable = False
        return view

    def __dlpack__(self, *, copy: bool | None = None, **kwargs: Any) -> Any:
        """The value for DLPack: by default a copy, because some libraries write to read-only memory."""
        return self.__array__(copy=copy is not False).__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        """The device for DLPack: the CPU."""
        return self._array().__dlpack_device__()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        func = ufunc if method == "__call__" else getattr(ufunc, method)
        out = kwargs.pop("out", None)
        result = self._run(func, inputs, kwargs)
        if out is None:
            return result
        for target, value in zip(out, result if isinstance(result, tuple) else (result,), strict=True):
            if not isinstance(target, np.ndarray):
                raise TypeError(f"out= must be a NumPy array; got {type(target).__name__}")
            np.copyto(target, as_array(value), casting="same_kind")
        return out[0] if len(out) == 1 else out

    def __array_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return self._run(func, args, kwargs)

    # -- common operators, without NumPy's dispatch if the other operand has no protocol of its own
    def __add__(self, other: Any) -> Any:
        return self._operate(np.add, other)

    def __sub__(self, other: Any) -> Any:
        return self._operate(np.subtract, other)

    def __mul__(self, other: Any) -> Any:
        return self._operate(np.multiply, other)

    def __truediv__(self, other: Any) -> Any:
        return self._operate(np.divide, other)

    def __matmul__(self, other: Any) -> Any:
        return self._operate(np.matmul, other)

    def _operate(self, ufunc: np.ufunc, other: Any) -> Any:
        if type(other) in _PLAIN or isinstance(other, TensorLike):
            return self._run(ufunc, (self, other), {})
        if getattr(other, "__array_ufunc__", ufunc) is None:
            return NotImplemented
        return ufunc(self, other)

    # -- "x += y" binds x to a new value, because values are immutable
    def __iadd__(self, other: Any) -> Any:
        return self + other

    def __isub__(self, other: Any) -> Any:
        return self - other

    def __imul__(self, other: Any) -> Any:
        return self * other

    def __itruediv__(self, other: Any) -> Any:
        return self / other

    # -- shape and dtype
    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return self._array().shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of the elements."""
        return self._array().dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._array().ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._array().size

    # -- Python's conversions
    def __float__(self) -> float:
        return float(self._array())

    def __int__(self) -> int:
        return int(self._array())

    def __index__(self) -> int:
        return operator.index(self._array()[()])

    def __bool__(self) -> bool:
        return bool(self._array())

    def __len__(self) -> int:
        return len(self._array())

    def __format__(self, spec: str) -> str:
        return format(self._array()[()] if self.ndim == 0 else self._array(), spec)

    def __iter__(self) -> Iterator[Any]:
        if self.ndim == 0:
            raise TypeError("cannot iterate over a tensor of shape ()")
        return (self[i] for i in range(len(self)))

    __hash__ = object.__hash__

    # -- indexing and the array methods in common use, all of them recorded
    def __getitem__(self, index: Any) -> Any:
        return self._run(operator.getitem, (self, index), {})

    @property
    def T(self) -> Any:  # noqa: N802 (NumPy's name)
        """The value with its axes reversed."""
        return self._call(np.transpose)

    def _call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._run(func, (self, *args), kwargs)

    def _run(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs ``func``, and records it if a tape is open. Traced values override this."""
        if func in MAY_WARN:
            with warnings_at_caller(func.__name__):
                return dispatch.call(run_eager, func, args, kwargs)
        return dispatch.call(run_eager, func, args, kwargs)

    def reshape(self, *shape: Any) -> Any:
        """Reshapes the elements: ``reshape(2, 3)`` or ``reshape((2, 3))``."""
        return self._call(np.reshape, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Any:
        """Returns the value with permuted axes, reversed by default."""
        order = axes[0] if len(axes) == 1 else axes
        return self._call(np.transpose, order or None)

    def astype(self, dtype: DTypeLike) -> Any:
        """Returns the value in another dtype."""
        return self._call(astype, np.dtype(dtype))

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        """Returns the sum over ``axis``, all axes by default."""
        return self._call(np.sum, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        """Returns the mean over ``axis``, all axes by default."""
        return self._call(np.mean, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Any:
        """Returns the largest element over ``axis``, all axes by default."""
        return self._call(np.max, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Any:
        """Returns the smallest element over ``axis``, all axes by default."""
        return self._call(np.min, axis=axis, keepdims=keepdims)

    def item(self) -> Any:
        """Returns the only element as a Python number."""
        return self._array().item()

    def tolist(self) -> Any:
        """Returns the value as nested lists of Python numbers."""
        return self._array().tolist()


class Tensor(TensorLike):
    """An immutable array: the result of a computation, or :func:`constant`.

    >>> (constant([1.0, 2.0]) * 3).numpy().tolist()
    [3.0, 6.0]
    """

    __slots__ = ("__weakref__", "_value", "of_mean")

    #: True on gradients of a loss that is a mean, so that an optimizer that sums gradients can warn. Else
    #: unset.
    of_mean: bool

    def __init__(self, value: Any, dtype: DTypeLike = None) -> None:
        array = array_of(value, dtype, "the value of a Tensor")
        array.flags.writeable = False
        self._value = array

    def _array(self) -> Array:
        return self._value

    @classmethod
    def from_numpy(cls, array: Array) -> Tensor:
        """Creates a tensor that shares the memory of ``array``, like ``torch.from_numpy``."""
        self = cls.__new__(cls)
        self._value = array
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return self

    def __repr__(self) -> str:
        body = np.array2string(self._value, separator=", ")
        return f"<tf.Tensor: shape={self.shape}, dtype={self.dtype.name}, numpy={body}>"


def constant(value: Any, dtype: DTypeLike = None, shape: Any = None, name: str | None = None) -> Tensor:  # noqa: ARG001
    """Returns a tensor with a copy of ``value``.

    Args:
        value: number, nested lists, array or tensor. Python floats become float32 and Python ints
            int32, as in TensorFlow; arrays keep their dtype.
        dtype: the dtype of the elements, to override this.
        shape: the shape to fill or reshape to.
        name: accepted and ignored.

    Raises:
        TypeError: ``value`` has objects, or ``dtype`` is not a numeric dtype.
        ValueError: rows differ in length, or the number of elements does not match ``shape``.
    """
    array = array_of(value, dtype, "the value of a constant")
    if shape is not None:
        lengths = as_shape(shape)
        if array.size != 1 and array.size != math.prod(lengths):
            raise ValueError(f"constant() cannot give a value of shape {array.shape} the shape {lengths}")
        array = np.full(lengths, array) if array.size == 1 else array.reshape(lengths)
    array.flags.writeable = False
    return Tensor.from_numpy(array)


def convert_to_tensor(value: Any, dtype: DTypeLike = None, name: str | None = None) -> Any:  # noqa: ARG001
    """Converts ``value`` to a tensor. Tensors and traced values of that dtype are returned unchanged."""
    if isinstance(value, TensorLike) and not hasattr(value, "assign"):
        return value if dtype is None or value.dtype == as_dtype(dtype) else value.astype(dtype)
    return constant(value, dtype)


#: Types in lists and tuples that ``unwrap`` must convert or reject before NumPy gets them.
_TO_UNWRAP = (TensorLike, list, tuple, np.ma.MaskedArray)


def unwrap(value: Any) -> Any:
    """``value`` with tensors replaced by plain arrays, also within nested lists and tuples."""
    if isinstance(value, TensorLike):
        return value._array()
    if isinstance(value, (list, tuple)) and any(isinstance(v, _TO_UNWRAP) for v in value):
        try:
            items = [unwrap(v) for v in value]
        except RecursionError:
            raise ValueError("a value is nested too deeply, or contains itself") from None
        if isinstance(value, tuple):
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        return items
    return value if type(value) in _PLAIN else readable(value)


def as_array(value: Any) -> Array:
    """``value`` as a plain array. Arrays and tensors are not copied."""
    if type(value) is np.ndarray:
        return value
    return value._array() if isinstance(value, TensorLike) else np.asarray(unwrap(value))


def array_of(value: Any, dtype: DTypeLike, what: str) -> Array:
    """A new array of numbers, strings or dates, in TensorFlow's default dtype if ``dtype`` is None.

    Raises:
        TypeError: ``value`` contains objects, or ``dtype`` is not a numeric dtype.
        ValueError: rows differ in length, strings are not numbers, or it is nested too deeply.
    """
    try:
        array = np.array(detached(unwrap(value)), dtype=_default_dtype(value, dtype), order="C")
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{what} cannot be made of {shown(value)}: {error}") from None
    if array.dtype.kind == "O":
        raise TypeError(f"{what} must be numbers; got {shown(value)}")
    return native(array)


def native(array: Array) -> Array:
    """``array`` in native byte order, as shared memory and messages require."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def astype(value: Any, dtype: np.dtype[Any]) -> Any:
    """``value.astype(dtype)`` as a function that tapes can record."""
    return value.astype(dtype)


def run_eager(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Runs ``func`` on plain arrays, and converts arrays in the result to tensors."""
    plain = tuple(unwrap(a) for a in args)
    if kwargs:
        kwargs = {k: unwrap(v) for k, v in kwargs.items()}
    return to_tensors(func(*plain, **kwargs), plain)


def to_tensors(result: Any, inputs: tuple[Any, ...]) -> Any:
    """Converts the arrays in the result of a function to tensors.

    Args:
        result: an array, a tuple or list of arrays, or anything else, which is returned unchanged.
        inputs: the plain arguments of the function.
    """
    if isinstance(result, np.ndarray):
        # Views of arguments are copied, because they would change with a variable.
        if result.base is not None and any(
            isinstance(a, np.ndarray) and np.may_share_memory(result, a) for a in inputs
        ):
            result = result.copy()
        return Tensor.from_numpy(result)
    if isinstance(result, np.generic):
        return Tensor.from_numpy(np.asarray(result))
    if isinstance(result, tuple):
        items = [to_tensors(r, inputs) for r in result]
        return type(result)(*items) if hasattr(result, "_fields") else tuple(items)
    if isinstance(result, list):
        return [to_tensors(r, inputs) for r in result]
    return result


def _default_dtype(value: Any, dtype: DTypeLike) -> np.dtype[Any] | None:
    """TensorFlow's default dtype: float32 or int32 for Python numbers; None keeps the dtype of arrays."""
    if dtype is not None:
        return as_dtype(dtype)
    if isinstance(value, (np.ndarray, np.generic, TensorLike)) or hasattr(value, "__array__"):
        return None
    if isinstance(value, (list, tuple)):
        leaf: Any = value
        while isinstance(leaf, (list, tuple)) and leaf:
            leaf = leaf[0]
        if isinstance(leaf, (np.ndarray, np.generic, TensorLike)):
            return None
    kind = np.asarray(detached(unwrap(value))).dtype
    return {"f": np.dtype(np.float32), "i": np.dtype(np.int32)}.get(kind.kind)
