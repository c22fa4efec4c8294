"""Compiles update rules with Numba, once for each rule, template and dtype, and caches them on disk.

Results do not depend on how arrays are divided: ``fastmath`` is off, so no operations are fused or reordered,
and each element is computed from its own inputs only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from distopt.engine.compile_lock import compile_lock
from distopt.engine.rule import Rule, where

__all__ = ["COMPILED", "Template", "compiled"]

#: The dtypes of compiled kernels. For other dtypes, NumPy runs the rule.
COMPILED = frozenset({np.dtype(np.float32), np.dtype(np.float64)})

#: ``(rule function, fingerprint of the rule, jit decorator) -> kernel``.
Template = Callable[[Any, str, Callable[[Any], Any]], Any]


def compiled(
    rule: Rule, template: Template, dtype: np.dtype[Any], arguments: tuple[Any, ...]
) -> Callable[..., Any]:
    """Compiles the kernel that ``template`` makes from ``rule``, or loads it from the disk cache.

    Args:
        rule: the update rule.
        template: makes the loop around the rule.
        dtype: float32 or float64.
        arguments: Numba types of the kernel's arguments, except the last one, the coefficients.
    """
    import numba
    from numba.extending import register_jitable

    _overload_where()
    for each in _parts(rule):
        register_jitable(each.function)
    coefficients = numba.types.UniTuple(numba.from_dtype(dtype), len(rule.coefficients))  # type: ignore[no-untyped-call]
    signature = (*arguments, coefficients)
    fingerprint = _fingerprint(rule)
    try:
        kernel = template(rule.function, fingerprint, _jit(True, dtype))
        with compile_lock(Path(kernel.stats.cache_path), kernel.__qualname__.rpartition(".")[2]):
            kernel.compile(signature)
    except Exception:
        # The cache may not be readable or writable. Compile without it; any other error occurs again here.
        kernel = template(rule.function, fingerprint, _jit(False, dtype))
        kernel.compile(signature)
    kernel.disable_compile()
    return kernel  # type: ignore[no-any-return]


def _jit(cached: bool, dtype: np.dtype[Any]) -> Callable[[Any], Any]:
    """Numba's decorator, which also gives each kernel a unique name, and so its own cache files.

    Kernels of the same name would share an index file, which Numba updates without a lock. If processes
    compiled different kernels at the same time, they would lose entries or load each other's code.
    """
    import numba

    def decorate(function: Any) -> Any:
        parts = [getattr(cell.cell_contents, "__name__", cell.cell_contents) for cell in function.__closure__]
        digest = hashlib.blake2b(repr((dtype.str, parts)).encode(), digest_size=8).hexdigest()
        function.__qualname__ += f".{digest}"
        return numba.njit(cache=cached, nogil=True, error_model="numpy")(function)

    return decorate


@cache
def _overload_where() -> None:
    from numba.extending import overload

    @overload(where)
    def select(condition, yes, no):  # type: ignore[no-untyped-def]  # noqa: ARG001
        return lambda condition, yes, no: yes if condition else no


def _fingerprint(rule: Rule) -> str:
    """A hash of all compiled source code: part of the cache key, so that an edit recompiles.

    Numba's own key covers only the template's file, and the names of the functions that it calls.
    """
    from distopt.comm.precompile import sources  # with Numba, which takes time to load

    source = b"".join(map(_source, _parts(rule)))
    return hashlib.blake2b(source + sources().encode(), digest_size=8).hexdigest()


def _parts(rule: Rule) -> list[Rule]:
    """The rules that a rule wraps, innermost first, then the rule itself."""
    below = rule.undecayed or rule.inner
    return [*(_parts(below) if below else ()), rule]


def _source(rule: Rule) -> bytes:
    code = rule.function.__code__
    try:
        return Path(code.co_filename).read_bytes()
    except OSError:
        return code.co_code + repr(code.co_consts).encode()
