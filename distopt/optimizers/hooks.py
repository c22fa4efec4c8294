"""Which hooks of an optimizer a class overrides, and which arguments they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

__all__ = ["overrides", "takes_state"]


@cache
def overrides(cls: type, base: type, hooks: tuple[str, ...]) -> bool:
    """Whether ``cls`` overrides any of these hooks of ``base``."""
    return any(getattr(cls, hook) is not getattr(base, hook) for hook in hooks)


def takes_state(method: Callable[..., Any]) -> bool:
    """Whether a method takes the argument ``apply_state``, which older optimizers lack."""
    return _names_state(getattr(method, "__func__", method))


@cache
def _names_state(function: Callable[..., Any]) -> bool:
    return "apply_state" in inspect.getfullargspec(function).args
