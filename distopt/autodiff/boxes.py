"""Traced values and the graph of operations that they leave behind.

The only file that touches the internals of HIPS autograd: its boxes (traced values), its nodes and
its tables of derivatives. A value traced by several tapes is a box in a box, the innermost tape's
outside; the number in ``_trace`` says which tape a box belongs to, larger numbers lying outside.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from autograd.core import VJPNode, primitive_vjps, sparse_add, sparse_object_types
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.tracer import (
    box_type_mappings,
    box_types,
    getval,
    notrace_primitives,
    trace_primitives_map,
    trace_stack,
)

from distopt.core.floating_point import MAY_WARN, warnings_at_caller
from distopt.core.tensor import TensorLike
from distopt.typing import Array

__all__ = [
    "TapeNode",
    "TensorBox",
    "apply",
    "autograd_getitem",
    "box_of",
    "box_types",
    "is_mean",
    "is_root",
    "kind_of",
    "new_root",
    "new_trace",
    "plain_value",
    "set_run",
    "primitive_of",
    "release",
    "sparse_add",
    "sparse_object_types",
    "traced",
    "unreachable_node",
]

# Set once, by ``recording``, which lies above: what runs a function on traced values.
_run: list[Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]] = []


def set_run(run: Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]) -> None:
    """Installs the function that decides who records a call on traced values."""
    _run[:] = [run]


# Process-wide: one derivative may depend on nodes that several tapes have recorded.
_numbers = itertools.count()


class TapeNode(VJPNode):  # type: ignore[misc]
    """One recorded operation: the nodes that it came from and how cotangents go back to them.

    Attributes:
        number: in the order of recording; larger than those of the nodes that it came from.
        dtype: of its value and of its cotangent.
        function: what was computed; None at roots.
        root: what is watched, at roots.
    """

    __slots__ = ("dtype", "function", "number", "root")
    parents: tuple[TapeNode, ...]

    def __init__(
        self,
        value: Any,
        fun: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        argnums: tuple[int, ...],
        parents: tuple[TapeNode, ...],
    ) -> None:
        if len(parents) > 1 and parents[0].parents and not parents[-1].parents:
            argnums, parents = _roots_first(argnums, parents)
        self.parents = parents  # type: ignore[misc]
        self.number = next(_numbers)
        self.dtype = getattr(value, "dtype", None)
        self.function: Callable[..., Any] | None = fun
        self.root: Any = None
        try:
            self.vjp = primitive_vjps[fun](argnums, value, args, kwargs)  # type: ignore[misc]
        except Exception as error:
            # Whoever only wants the value need not hear that there is no derivative.
            self.vjp = _no_derivative(fun, argnums, error)

    def initialize_root(self, dtype: Any = None, root: Any = None) -> None:
        """Makes this the node of a variable or watched tensor."""
        self.parents = ()  # type: ignore[misc]
        self.number = next(_numbers)
        self.dtype = dtype
        self.function = None
        self.root = root
        self.vjp = _nothing


notrace_primitives[TapeNode] = notrace_primitives[VJPNode]


def is_root(node: Any) -> bool:
    """Whether the node stands for something watched, not for an operation."""
    return not node.parents and node.vjp is _nothing


def _roots_first(
    argnums: tuple[int, ...], parents: tuple[TapeNode, ...]
) -> tuple[tuple[int, ...], tuple[TapeNode, ...]]:
    """Derivatives that compute one cotangent after the other then begin with those of variables."""
    order = sorted(range(len(parents)), key=lambda i: bool(parents[i].parents))
    return tuple([argnums[i] for i in order]), tuple([parents[i] for i in order])


def is_mean(value: Any) -> bool:
    """Whether ``value`` is a traced scalar that a mean over all elements gave: its last operation."""
    if type(value) is not TensorBox:
        return False
    name = getattr(getattr(value._node, "function", None), "__name__", "")
    return name in ("mean", "average") and not value.shape


def release(node: TapeNode) -> None:
    """Lets go of what an operation kept for its derivative."""
    node.parents, node.vjp = (), _nothing  # type: ignore[misc]


def _nothing(_cotangent: Any) -> tuple[()]:
    return ()


def _no_derivative(fun: Any, argnums: tuple[int, ...], error: Exception) -> Callable[[Any], Any]:
    name = getattr(fun, "__name__", str(fun))
    cause = "" if isinstance(error, KeyError) else f" ({type(error).__name__}: {error})"
    where = ", ".join(str(n) for n in argnums)

    def vjp(_cotangent: Any) -> Any:
        raise NotImplementedError(
            f"{name} has no derivative for argument {where} as it was called{cause}: use other NumPy "
            "functions, or wrap it with distopt.autodiff.primitive and give its derivative with defvjp"
        )

    return vjp


class TensorBox(TensorLike, ArrayBox):  # type: ignore[misc]
    """A traced value. Autograd's box for arrays and floats, with the behaviour of a tensor."""

    __slots__ = ("__weakref__",)

    def __init__(self, value: Any, trace: int, node: Any) -> None:
        if type(value) is TensorBox and value._trace >= trace:  # type: ignore[has-type]
            raise TypeError(
                "a function of autograd.numpy was called on distopt values and boxed them twice: "
                "use numpy's own function (numpy.tanh, not autograd.numpy.tanh)"
            )
        self._value = value  # type: ignore[misc]
        self._trace = trace  # type: ignore[misc]
        self._node = node  # type: ignore[misc]

    def _array(self) -> Array:
        if type(self._node) is not TapeNode:
            raise TypeError(
                "this value is traced by a function of autograd itself (autograd.grad, ...), which must see "
                "every operation on it: use NumPy functions, not its plain value"
            )
        return plain_value(self)

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        value = self._value
        return value.shape if type(value) is np.ndarray else plain_value(self).shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of the elements."""
        value = self._value
        return value.dtype if type(value) is np.ndarray else plain_value(self).dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        value = self._value
        return value.ndim if type(value) is np.ndarray else plain_value(self).ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return plain_value(self).size

    def __len__(self) -> int:
        return len(plain_value(self))

    def _run(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func in MAY_WARN:
            with warnings_at_caller(func.__name__):
                return _run[0](func, args, kwargs)
        return _run[0](func, args, kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> TensorBox:
        return self

    def __repr__(self) -> str:
        value = plain_value(self)
        body = np.array2string(value, separator=", ")
        return f"<tf.Tensor: shape={value.shape}, dtype={value.dtype.name}, numpy={body}, traced>"

    __str__ = __repr__


for _type in (
    np.ndarray,
    float,
    np.float16,
    np.float32,
    np.float64,
    np.longdouble,
    complex,
    np.complex64,
    np.complex128,
    np.clongdouble,
):
    TensorBox.register(_type)


def plain_value(box: TensorBox) -> Array:
    """The plain array in a box, however many tapes follow it."""
    value: Any = box._value
    while type(value) is TensorBox:
        value = value._value
    return value if type(value) is np.ndarray else np.asarray(value)


# Process-wide, as the number that it guards, which is autograd's.
_trace_lock = threading.Lock()


def new_trace() -> int:
    """A number for a tape, above all that autograd has given out.

    It is never taken back, because tapes of several threads may end in any order.
    """
    with _trace_lock:
        trace_stack.top += 1
        return int(trace_stack.top)


def new_root(dtype: Any, root: Any = None) -> TapeNode:
    """The node of a variable or tensor that a tape watches."""
    node = TapeNode.__new__(TapeNode)
    node.initialize_root(dtype, root)
    return node


def unreachable_node(dtype: Any, message: str) -> TapeNode:
    """A node that raises RuntimeError when a derivative is asked through it."""

    def vjp(_cotangent: Any) -> Any:
        raise RuntimeError(message)

    node = new_root(dtype)
    node.vjp = vjp
    return node


def box_of(value: Any, trace: int) -> Any:
    """The box of that trace in ``value``, or None."""
    while type(value) is TensorBox:
        if value._trace == trace:
            return value
        value = value._value
    return None


def apply(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Calls an autograd primitive: what its own wrapper does, but integer results are not traced.

    Args:
        func: the primitive.
        args: its arguments, boxes among them.
        kwargs: keyword arguments, without boxes.
    """
    trace, argnums, boxes = -1, [], 0
    for i, arg in enumerate(args):
        if type(arg) in box_types:
            boxes += 1
            if arg._trace > trace:
                trace, argnums = arg._trace, [i]
            elif arg._trace == trace:
                argnums.append(i)
    if not argnums:
        return func.fun(*args, **kwargs)
    values = list(args)
    parents = []
    for i in argnums:
        value = values[i] = args[i]._value
        parents.append(args[i]._node)
        boxes -= type(value) is not TensorBox
    answer = apply(func, values, kwargs) if boxes else func.fun(*values, **kwargs)
    return traced(answer, func, (values, kwargs), trace, argnums, parents)


def traced(
    answer: Any,
    func: Any,
    call: tuple[list[Any], dict[str, Any]],
    trace: int,
    argnums: list[int],
    parents: list[Any],
) -> Any:
    """The box of a primitive's answer; the answer itself if it has no derivative (integers, ...).

    Args:
        answer: what the primitive returned.
        func: the primitive.
        call: the arguments that it was called with.
        trace: the outermost trace among its arguments.
        argnums: which arguments belonged to it.
        parents: their nodes.
    """
    kind = type(answer)
    if kind is np.ndarray or kind is TensorBox:
        if answer.dtype.kind in "biuSUO":
            return answer
    elif kind not in box_type_mappings:
        return answer
    node_type = type(parents[0])
    if func in notrace_primitives[node_type]:
        return answer
    node = node_type(answer, func, tuple(call[0]), call[1], tuple(argnums), tuple(parents))
    return box_type_mappings[kind](answer, trace, node)


def kind_of(box: Any) -> type:
    """The type of what a box of several arrays holds: a tuple, a named tuple, a list."""
    return type(getval(box))


#: Autograd's own indexing, for its own traces.
autograd_getitem = ArrayBox.__getitem__


def primitive_of(func: Callable[..., Any]) -> Any:
    """The autograd primitive made from ``func``, or None."""
    return trace_primitives_map.get(func)
