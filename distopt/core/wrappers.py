"""Functions that stand for others."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, ParamSpec, TypeVar

__all__ = ["named_after"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def named_after(function: Callable[_P, _R], wrapper: Any) -> Callable[_P, _R]:
    """``wrapper``, which from now on looks like ``function``, in tracebacks and messages too."""
    wrapper.__code__ = wrapper.__code__.replace(co_name=function.__name__)
    return update_wrapper(wrapper, function)
