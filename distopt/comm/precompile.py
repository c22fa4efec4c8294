"""Compiling a function where it is defined."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from numba import njit

__all__ = ["precompiled"]


_WITHOUT_LOCK = partial(njit, nogil=True)


def precompiled(signature: Any, compiler: Callable[..., Any] = _WITHOUT_LOCK) -> Callable[[Any], Any]:
    """Compiles for ``signature``, kept on disk where that can be; an unwritable cache is no error.

    Args:
        signature: as Numba takes it.
        compiler: what makes of a signature a decorator; without the interpreter's lock by default.
    """

    def compile_it(function: Any) -> Any:
        try:
            return compiler(signature, cache=True)(function)
        except RuntimeError:  # no folder for the cache can be written
            return compiler(signature)(function)

    return compile_it
