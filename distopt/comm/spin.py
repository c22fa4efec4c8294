"""Compiled waits that release the GIL: at counters in shared memory, and during the start of MPI.

Each counter has its own cache line of 64 bytes. Loads have acquire semantics, and stores have release
semantics. So replicas that waited for a signal see what the signaling replica wrote before it.
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

#: How often to read a counter before yielding the processor, and how often to yield before a wait gives up.
SPINS, YIELDS = 200, 400


#: The time between two checks of watch(), and the time that a launcher needs to forward the last output.
_CHECK_MICROSECONDS, _FORWARDING_MICROSECONDS = 2000, 200_000
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
    """Writes the time of ``time.perf_counter`` to an address, as two int64: seconds and nanoseconds."""
    _clock_gettime(_MONOTONIC, address)


@precompiled(f"void({_I64}, int64, int64)")
def signal(counters: Any, rank: int, value: int) -> None:
    """Sets the counter of replica ``rank`` to ``value``."""
    _store(counters, rank * STRIDE, value)


@precompiled(f"int64({_I64}, int64, int64, int64, int64)")
def wait(counters: Any, size: int, value: int, spins: int, yields: int) -> int:
    """Waits until all ``size`` counters are at least ``value``.

    It reads a counter up to ``spins`` times, then up to ``yields`` times, yielding the processor each time.

    Returns:
        -1, or the first replica whose counter is still lower.
    """
    for rank in range(size):
        attempts = 0
        while _load(counters, rank * STRIDE) < value:
            attempts += 1
            if attempts > spins:
                _sched_yield()
            if attempts > spins + yields:
                return rank
    return -1


@precompiled(f"int64({_I64}, int64, int64, int64, int64, int64)")
def arrive_and_wait(counters: Any, rank: int, size: int, value: int, spins: int, yields: int) -> int:
    """:func:`signal`, then :func:`wait`."""
    _store(counters, rank * STRIDE, value)
    missing: int = wait(counters, size, value, spins, yields)
    return missing


@precompiled(f"void({_I64}, float64, float64, uint8[::1], uint8[::1])")
def watch(state: Any, stall: float, abort: float, warning: Any, ending: Any) -> None:
    """A watchdog thread for a call that does not release the GIL.

    Args:
        state: two counters. This function sets the first to 1 when it starts, and returns when the second is
            not 0.
        stall: after this many seconds, it writes ``warning`` to standard error (0: never).
        abort: after this many seconds, it writes ``ending`` and ends the process with code 1 (0: never).
        warning: the bytes of a message.
        ending: the bytes of a message.
    """
    start = _seconds()
    warned = False
    _store(state, 0, 1)
    while _load(state, STRIDE) == 0:
        _usleep(_CHECK_MICROSECONDS)
        waited = _seconds() - start
        if not warned and waited > stall > 0:
            warned = True
            _write(2, warning.ctypes.data, warning.size)
        if waited > abort > 0:
            _write(2, ending.ctypes.data, ending.size)
            _usleep(_FORWARDING_MICROSECONDS)
            _exit(1)


def counters(block: np.ndarray[Any, np.dtype[np.uint8]], size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """``size`` counters, as a view of the start of a zero-filled block."""
    return block[: size * STRIDE * 8].view(np.int64)
