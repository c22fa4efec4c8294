"""Functions that torch.compile() leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

__all__ = ["eager"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def eager(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """A function that runs as it is where a compiled one calls it, as it exchanges messages."""
    disable: Any = torch.compiler.disable
    found: Callable[_P, _R] = disable(function)
    return found
