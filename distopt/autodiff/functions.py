"""From a NumPy function to the autograd function that knows its derivative."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import autograd.numpy as anp
import numpy as np

from distopt.autodiff import composites, rules
from distopt.autodiff.boxes import apply, autograd_getitem, box_types, primitive_of
from distopt.core.tensor import astype

__all__ = ["call", "name_of", "primitive_for"]


def call(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Runs ``func`` on arguments of which some are boxes.

    Raises:
        TypeError: ``func`` cannot be followed, because autograd does not know it, or not with
            traced values inside lists.
    """
    known = _table.get(func) or primitive_of(func)
    if known is None:
        raise TypeError(
            f"{name_of(func)} cannot be followed by a tape: write it with other NumPy functions, wrap it "
            "with distopt.autodiff.primitive, or pass stop_gradient(value) if you need no gradient"
        )
    if not hasattr(known, "fun"):
        return known(*args, **kwargs)
    for arg in args:
        if isinstance(arg, (list, tuple)) and _holds_boxes(arg):
            raise TypeError(
                f"{name_of(func)} cannot be followed by a tape if traced values are in a list: build the "
                "array with numpy.concatenate or numpy.stack"
            )
    try:
        return apply(known, args, kwargs)
    except NotImplementedError:
        # Forward mode, which our rules do not know: only autograd's own traces ask for it.
        theirs = _autograd_table.get(func, known)
        if theirs is known:
            raise
        return theirs(*args, **kwargs)


def primitive_for(func: Callable[..., Any]) -> Any:
    """The autograd primitive that stands for ``func``; None if there is none, or more than one."""
    known = _table.get(func) or primitive_of(func)
    return known if hasattr(known, "fun") else None


def name_of(func: Any) -> str:
    """The function's name as a user would write it."""
    owner = getattr(func, "__self__", None)
    name = getattr(func, "__name__", repr(func))
    if isinstance(owner, np.ufunc):
        return f"numpy.{owner.__name__}.{name}"
    if isinstance(func, np.ufunc) or (getattr(func, "__module__", None) or "").startswith("numpy"):
        module = getattr(func, "__module__", None) or "numpy"
        return f"{module}.{name}"
    return str(name)


def _holds_boxes(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_boxes(item) for item in value)
    return type(value) in box_types


def _reduction(function: Any) -> Callable[..., Any]:
    def reduce(array: Any, axis: Any = 0, dtype: Any = None, keepdims: bool = False) -> Any:
        if dtype is not None:
            array = array.astype(dtype)
        return function(array, axis=axis, keepdims=keepdims)

    return reduce


def _make_autograd_table() -> dict[Any, Any]:
    table: dict[Any, Any] = {operator.getitem: autograd_getitem}
    for ours, theirs in ((np, anp), (np.linalg, anp.linalg), (np.fft, anp.fft)):
        for name in dir(ours):
            raw, wrapped = getattr(ours, name), getattr(theirs, name, None)
            if callable(raw) and callable(wrapped) and not isinstance(raw, type):
                table[raw] = wrapped
    return table


_autograd_table = _make_autograd_table()
_table = {
    **_autograd_table,
    **rules.rules(),
    **composites.COMPOSITES,
    operator.getitem: rules.getitem,
    astype: rules.astype,
    np.add.reduce: _reduction(np.sum),
    np.multiply.reduce: _reduction(np.prod),
    np.maximum.reduce: _reduction(np.max),
    np.minimum.reduce: _reduction(np.min),
}
