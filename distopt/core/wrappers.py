"""``named_after``: gives a wrapper the name of the function that it wraps."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, ParamSpec, TypeVar

__all__ = ["named_after"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def named_after(function: Callable[_P, _R], wrapper: Any) -> Callable[_P, _R]:
    """Returns ``wrapper`` with the name, docstring and signature of ``function``, also in tracebacks."""
    wrapper.__code__ = wrapper.__code__.replace(co_name=function.__name__)
    return update_wrapper(wrapper, function)
