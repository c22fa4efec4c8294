"""Compiling rules: once for each rule, template and dtype, kept on disk.

Results do not depend on where the arrays are cut: no fused or reordered arithmetic
(``fastmath`` stays off), and each element is computed from its own inputs alone.
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

#: What Numba computes in on a CPU; other dtypes run the rule as NumPy code.
COMPILED = frozenset({np.dtype(np.float32), np.dtype(np.float64)})

#: Makes a kernel of the rule's function, the rule's fingerprint and Numba's decorator.
Template = Callable[[Any, str, Callable[[Any], Any]], Any]


def compiled(
    rule: Rule, template: Template, dtype: np.dtype[Any], arguments: tuple[Any, ...]
) -> Callable[..., Any]:
    """The kernel that ``template`` makes of ``rule``, compiled for ``dtype``.

    Args:
        rule: what to compute.
        template: the loop around it.
        dtype: float32 or float64.
        arguments: Numba types of the kernel's arguments before the last, the coefficients.
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
        # A cache that cannot be written or read is no error; what else is wrong comes up again here.
        kernel = template(rule.function, fingerprint, _jit(False, dtype))
        kernel.compile(signature)
    kernel.disable_compile()
    return kernel  # type: ignore[no-any-return]


def _jit(cached: bool, dtype: np.dtype[Any]) -> Callable[[Any], Any]:
    """Numba's decorator; each kernel has a name of its own, and so files of its own on disk.

    Kernels of one name would share an index, which Numba reads, changes and writes without a lock: processes
    that compile different ones at once would lose each other's entries, or get each other's code.
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
    """A hash of the sources that are compiled: the disk cache is keyed by it, so that an edit recompiles.

    Numba's own key holds the template's file and the names of what it calls.
    """
    from distopt.comm.precompile import sources  # with Numba, which takes time to load

    source = b"".join(map(_source, _parts(rule)))
    return hashlib.blake2b(source + sources().encode(), digest_size=8).hexdigest()


def _parts(rule: Rule) -> list[Rule]:
    """The rules that a rule is made of, the inmost first, and itself."""
    below = rule.undecayed or rule.inner
    return [*(_parts(below) if below else ()), rule]


def _source(rule: Rule) -> bytes:
    code = rule.function.__code__
    try:
        return Path(code.co_filename).read_bytes()
    except OSError:
        return code.co_code + repr(code.co_consts).encode()
