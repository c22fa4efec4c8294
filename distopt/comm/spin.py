"""Waiting on counters in shared memory: signal and wait, compiled, without the interpreter's lock.

Counters lie 64 bytes apart, one a cache line. Loads acquire and stores release, so what a replica
wrote before its signal is seen by those that waited for it, on every processor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

__all__ = ["STRIDE", "arrived", "signal", "wait"]

#: int64 items between two counters: one cache line.
STRIDE = 8

_sched_yield = types.ExternalFunction("sched_yield", types.int32())


@intrinsic
def _load(typingctx: Any, array: Any, index: Any = None) -> Any:  # noqa: ARG001
    """``array[index]`` of int64, with acquire ordering."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = builder.gep(view.data, [args[1]], inbounds=True)
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(array, types.intp), codegen


@intrinsic
def _store(typingctx: Any, array: Any, index: Any = None, value: Any = None) -> Any:  # noqa: ARG001
    """``array[index] = value`` of int64, with release ordering."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = builder.gep(view.data, [args[1]], inbounds=True)
        builder.store_atomic(args[2], pointer, "release", 8)
        return ir.Constant(ir.IntType(32), 0)

    return types.int32(array, types.intp, types.int64), codegen


_I64 = "int64[::1]"


def _compiled(signature: str) -> Callable[[Any], Any]:
    """Compiles for ``signature``, kept on disk where that can be; an unwritable cache is no error."""

    def compile_it(function: Any) -> Any:
        try:
            return njit(signature, cache=True, nogil=True)(function)
        except RuntimeError:
            return njit(signature, nogil=True)(function)

    return compile_it


@_compiled(f"void({_I64}, int64, int64)")
def signal(counters: Any, rank: int, value: int) -> None:
    """Says that replica ``rank`` has come to ``value``."""
    _store(counters, rank * STRIDE, value)


@_compiled(f"int64({_I64}, int64)")
def arrived(counters: Any, rank: int) -> int:
    """Where replica ``rank`` has come to."""
    value: int = _load(counters, rank * STRIDE)
    return value


@_compiled(f"int64({_I64}, int64, int64, int64, int64)")
def wait(counters: Any, size: int, value: int, spins: int, yields: int) -> int:
    """Waits until all ``size`` counters are at least ``value``.

    Looks ``spins`` times, then ``yields`` times more with the processor offered to others.

    Returns:
        -1, or the first replica that has not come.
    """
    for rank in range(size):
        looks = 0
        while _load(counters, rank * STRIDE) < value:
            looks += 1
            if looks > spins:
                _sched_yield()
            if looks > spins + yields:
                return rank
    return -1


def counters(block: np.ndarray[Any, np.dtype[np.uint8]], size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """``size`` counters at the start of a zero-filled block."""
    return block[: size * STRIDE * 8].view(np.int64)
