"""Makes functions differentiable: ``primitive``, ``defvjp``, ``custom_gradient``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from autograd import extend

from distopt.autodiff.boxes import TensorBox, plain_value
from distopt.core import dispatch, nest
from distopt.core.tensor import Tensor, TensorLike, as_array, convert_to_tensor, run_eager
from distopt.core.variable import Variable

__all__ = ["custom_gradient", "defvjp", "defvjp_argnums", "primitive", "stop_gradient"]


def primitive(func: Callable[..., Any]) -> Callable[..., Any]:
    """Makes tapes follow a function of plain arrays. Set its derivative with :func:`defvjp`.

    Inside, ``func`` gets plain arrays. You can call it with variables, tensors, traced values and arrays,
    as positional arguments (not inside lists). As with NumPy's functions, the result is a tensor, or a
    traced value under a tape, if one of the arguments is a variable, tensor or traced value. Otherwise
    the result of ``func`` is returned unchanged.

    >>> @primitive
    ... def double(x):
    ...     return 2 * x
    >>> defvjp(double, lambda ans, x: lambda g: 2 * g)
    """
    traced = extend.primitive(func)

    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        first = None
        for arg in args:
            if isinstance(arg, TensorLike):
                if type(arg) is TensorBox:
                    return arg._run(func, args, kwargs)
                first = arg
        for arg in kwargs.values():
            if isinstance(arg, TensorLike):
                first = arg
        return func(*args, **kwargs) if first is None else first._run(func, args, kwargs)

    call._traced = traced  # type: ignore[attr-defined]
    return call


def _traced(func: Callable[..., Any], caller: str) -> Callable[..., Any]:
    try:
        return func._traced  # type: ignore[attr-defined, no-any-return]
    except AttributeError:
        raise TypeError(f"{caller}() needs a function decorated with @primitive; got {func!r}") from None


def defvjp(
    func: Callable[..., Any], *makers: Callable[..., Any] | None, argnums: Sequence[int] | None = None
) -> None:
    """Sets the derivatives of a primitive, with one maker for each argument in order.

    Args:
        func: a function made with :func:`primitive`.
        makers: ``maker(answer, *args, **kwargs)`` returns ``vjp(g)``. This maps the cotangent of the
            answer (same shape and dtype) to that of the argument (same shape; an array, or
            IndexedSlices). None means no gradient. If makers use NumPy functions and other primitives,
            their result can be differentiated again.
        argnums: the arguments that the makers belong to, ``0, 1, 2, ...`` by default.

    Raises:
        TypeError: ``func`` is not a primitive.
    """
    traced = _traced(func, "defvjp")
    if argnums is None:
        extend.defvjp(traced, *makers)
    else:
        extend.defvjp(traced, *makers, argnums=argnums)


def defvjp_argnums(
    func: Callable[..., Any], maker: Callable[..., Any], argnums: Sequence[int] | None = None
) -> None:
    """Sets the derivatives of a primitive for all traced arguments at once.

    Args:
        func: a function made with :func:`primitive`.
        maker: ``maker(argnums, answer, args, kwargs)`` returns ``vjp(g)``, which returns (or yields)
            one cotangent (or None) for each number in ``argnums``, in that order: variables come first.
        argnums: the arguments that have a derivative, all by default. Asking for the gradient of another
            one is an error.

    Raises:
        TypeError: ``func`` is not a primitive.
    """
    traced = _traced(func, "defvjp_argnums")
    extend.defvjp_argnums(traced, maker if argnums is None else _only_for(frozenset(argnums), maker))


def _only_for(known: frozenset[int], maker: Callable[..., Any]) -> Callable[..., Any]:
    def checked(argnums: tuple[int, ...], *call: Any) -> Any:
        if not known.issuperset(argnums):
            raise NotImplementedError(f"only for arguments {sorted(known)}")
        return maker(argnums, *call)

    return checked


def stop_gradient(input: Any, name: str | None = None) -> Any:  # noqa: A002, ARG001 (TensorFlow's names)
    """Returns ``input`` (a tensor, or a nested structure of them) as a constant that no tape follows."""
    return nest.map_structure(_stopped, input)


def _stopped(value: Any) -> Any:
    if isinstance(value, Variable):
        return (
            value.read_value()
            if not dispatch.active_recorders()
            else Tensor.from_numpy(as_array(value).copy())
        )
    return Tensor.from_numpy(plain_value(value)) if type(value) is TensorBox else convert_to_tensor(value)


class _Watcher:
    """Stands on the stack of tapes while a custom-gradient function runs: nothing is recorded."""

    def __init__(self, name: str) -> None:
        self.name = name

    def record(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for leaf in nest.flatten([list(args), kwargs]):
            if isinstance(leaf, Variable) and leaf.trainable:
                raise TypeError(
                    f"{self.name}(), a function with a custom gradient, uses the trainable variable "
                    f"{leaf.name!r}, which is not one of its arguments: pass it and return its gradient too"
                )
        return run_eager(func, args, kwargs)


@contextmanager
def _only(recorders: list[Any]) -> Iterator[None]:
    stack = dispatch.active_recorders()
    before = list(stack)
    stack[:] = recorders
    try:
        yield
    finally:
        stack[:] = before


def custom_gradient(func: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a function the gradient that it returns beside its value, like ``tf.custom_gradient``.

    Args:
        func: ``func(*args)`` returns ``(y, grad_fn)``. ``y`` is a tensor, or a tuple or list of them.
            ``grad_fn(*dy)`` returns the gradient of each positional argument (one, or a tuple or list).
            Trainable variables that ``func`` uses must be its arguments.

    Raises:
        TypeError: at the call, if ``func`` does not return a pair, or uses a trainable variable that is
            not an argument.

    >>> @custom_gradient
    ... def clipped(x):
    ...     return x * 1.0, lambda dy: np.clip(dy, -1.0, 1.0)
    """
    name = getattr(func, "__name__", "function")

    def forward(kept: list[Any], kwargs: dict[str, Any], *args: Any) -> Any:
        with _only([_Watcher(name)]):
            result, grad_fn = _pair(func(*(_tensor(a) for a in args), **kwargs), name)
        kept.append(grad_fn)
        if isinstance(result, (tuple, list)):
            return tuple(as_array(item) for item in result)
        return as_array(result)

    def maker(argnums: tuple[int, ...], _answer: Any, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
        kept, kwargs, *values = args
        levels = [value._trace for value in values if type(value) is TensorBox]
        if levels:
            # The gradient itself is to be differentiated by tapes further out: let them see it.
            outer = [tape for tape in dispatch.active_recorders() if tape.trace <= max(levels)]  # type: ignore[attr-defined]
            with _only(outer):
                grad_fn = _pair(func(*(_tensor(v) for v in values), **kwargs), name)[1]
        else:
            grad_fn = kept[0]

        def vjp(cotangent: Any) -> list[Any]:
            parts = cotangent if isinstance(cotangent, tuple) else (cotangent,)
            grads = grad_fn(*(_tensor(part) for part in parts))
            grads = grads if isinstance(grads, (tuple, list)) else (grads,)
            if len(grads) != len(values):
                raise ValueError(
                    f"the gradient function of {name}() returned {len(grads)} gradients "
                    f"for {len(values)} arguments"
                )
            return [grads[n - 2] for n in argnums]

        return vjp

    recorded = primitive(forward)
    defvjp_argnums(recorded, maker)

    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        return recorded([], kwargs, *(a if isinstance(a, TensorLike) else convert_to_tensor(a) for a in args))

    return call


def _tensor(value: Any) -> Any:
    return value if isinstance(value, TensorLike) else Tensor.from_numpy(np.asarray(value))


def _pair(result: Any, name: str) -> tuple[Any, Any]:
    if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
        raise TypeError(
            f"{name}(), a function with a custom gradient, must return (value, gradient function)"
        )
    return result
