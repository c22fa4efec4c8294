"""Waiting, compiled, without the interpreter's lock: on counters in shared memory, and over MPI's start.

Counters lie 64 bytes apart, one a cache line. Loads acquire and stores release, so what a replica
wrote before its signal is seen by those that waited for it, on every processor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from distopt.comm.compiled import STRIDE
from distopt.comm.precompile import precompiled

__all__ = ["SPINS", "YIELDS", "arrive_and_wait", "counters", "signal", "take_time", "wait", "watch"]

#: Looks at the others' counters before the processor is offered, and offers before Python looks.
SPINS, YIELDS = 200, 400


#: Between two looks of a watch, and what a launcher needs to pass on what a process wrote that ends.
_LOOK_MICROSECONDS, _PASSED_ON_MICROSECONDS = 2000, 200_000
_MONOTONIC = 1

_sched_yield = types.ExternalFunction("sched_yield", types.int32())
_usleep = types.ExternalFunction("usleep", types.int32(types.uint32))
_write = types.ExternalFunction("write", types.intp(types.int32, types.intp, types.intp))
_exit = types.ExternalFunction("_exit", types.int32(types.int32))
_clock_gettime: Any = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.intp))


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


@precompiled("float64()")
def _seconds() -> float:
    now = np.zeros(2, np.int64)  # struct timespec
    _clock_gettime(_MONOTONIC, now.ctypes.data)
    seconds: float = now[0] + now[1] * 1e-9
    return seconds


@precompiled("void(int64)")
def take_time(address: int) -> None:
    """Writes the time that ``time.perf_counter`` counts to an address: two int64, seconds and nanoseconds."""
    _clock_gettime(_MONOTONIC, address)


@precompiled(f"void({_I64}, int64, int64)")
def signal(counters: Any, rank: int, value: int) -> None:
    """Says that replica ``rank`` has come to ``value``."""
    _store(counters, rank * STRIDE, value)


@precompiled(f"int64({_I64}, int64, int64, int64, int64)")
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


@precompiled(f"int64({_I64}, int64, int64, int64, int64, int64)")
def arrive_and_wait(counters: Any, rank: int, size: int, value: int, spins: int, yields: int) -> int:
    """Says that replica ``rank`` has come to ``value``, then waits for all: see :func:`wait`."""
    _store(counters, rank * STRIDE, value)
    missing: int = wait(counters, size, value, spins, yields)
    return missing


@precompiled(f"void({_I64}, float64, float64, uint8[::1], uint8[::1])")
def watch(state: Any, stall: float, abort: float, warning: Any, ending: Any) -> None:
    """Watches, from a thread, over a call that keeps the interpreter's lock.

    Args:
        state: two counters. The first becomes 1 when the watch has begun, the second ends it.
        stall: seconds after which ``warning`` is written to the error output (0: never).
        abort: seconds after which ``ending`` is, and the process ended with code 1 (0: never).
        warning: bytes.
        ending: bytes.
    """
    start = _seconds()
    said = False
    _store(state, 0, 1)
    while _load(state, STRIDE) == 0:
        _usleep(_LOOK_MICROSECONDS)
        waited = _seconds() - start
        if not said and waited > stall > 0:
            said = True
            _write(2, warning.ctypes.data, warning.size)
        if waited > abort > 0:
            _write(2, ending.ctypes.data, ending.size)
            _usleep(_PASSED_ON_MICROSECONDS)
            _exit(1)


def counters(block: np.ndarray[Any, np.dtype[np.uint8]], size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """``size`` counters at the start of a zero-filled block."""
    return block[: size * STRIDE * 8].view(np.int64)
