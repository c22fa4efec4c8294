"""``eager``: excludes functions from torch.compile()."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

from distopt.core.wrappers import named_after

__all__ = ["eager"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def eager(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Makes a function that exchanges messages run eagerly when compiled code calls it.

    It uses ``torch.compiler.disable``, which imports the whole compiler and takes as long as importing
    PyTorch. So it does this only if the program has already imported the compiler.
    """
    disabled: list[Callable[_P, _R]] = []

    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        if not disabled:
            disable: Any = torch.compiler.disable
            disabled.append(disable(function))
        return disabled[0](*args, **kwargs)

    return named_after(function, call)
