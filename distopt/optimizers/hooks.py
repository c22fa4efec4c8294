"""Which hooks of an optimizer a class replaces, and what they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

__all__ = ["replaces", "takes_state"]


@cache
def replaces(cls: type, base: type, hooks: tuple[str, ...]) -> bool:
    """Whether ``cls`` has any of these hooks of ``base`` in a way of its own."""
    return any(getattr(cls, hook) is not getattr(base, hook) for hook in hooks)


def takes_state(method: Callable[..., Any]) -> bool:
    """Whether a method has an argument ``apply_state``, which older optimizers lack."""
    return _names_state(getattr(method, "__func__", method))


@cache
def _names_state(function: Callable[..., Any]) -> bool:
    return "apply_state" in inspect.getfullargspec(function).args
