"""Copying into shared memory past the cache.

What one core writes the usual way lies in its cache, and another core that reads it has to fetch it
from there, line by line, which costs several times what memory itself does. Streaming
(non-temporal) stores put it into memory at once. Measured with 2 replicas, 25 M float32 parameters:
the step takes 12 ms with streaming stores, 17 to 29 ms without, as the cores lie to each other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from distopt.typing import Array

__all__ = ["stream"]

#: Bytes of one streaming store: a cache line.
_LINE = 64


def stream(target: Array, addresses: Array, lengths: Array) -> None:
    """Copies pieces of this process's memory into ``target``, one after the other.

    When it returns, a replica that is told so next finds them there.

    Args:
        target: 1-D, contiguous.
        addresses: ``[n]`` int64, where the pieces begin.
        lengths: ``[n]`` int64, their lengths in bytes, together those of ``target``.
    """
    _kernel()(target.view(np.uint8), addresses, lengths)


@cache
def _kernel() -> Callable[[Array, Array, Array], None]:
    import numba

    numbers = numba.types.Array(numba.int64, 1, "C", readonly=True)
    signature = (numba.types.Array(numba.uint8, 1, "C"), numbers, numbers)
    try:
        kernel = _copy(numba.njit(cache=True, nogil=True))
        kernel.compile(signature)
    except Exception:
        # A cache that cannot be written or read is no error.
        kernel = _copy(numba.njit(nogil=True))
        kernel.compile(signature)
    kernel.disable_compile()
    return kernel  # type: ignore[no-any-return]


def _copy(jit: Callable[[Any], Any]) -> Any:
    line = _LINE
    address_of, byte, store_line, fence = _intrinsics()

    @jit
    def kernel(target, addresses, lengths):  # type: ignore[no-untyped-def]
        first = address_of(target)
        end = 0
        for k in range(addresses.size):
            source = addresses[k] - end
            start, end = end, end + lengths[k]
            aligned = min(end, start + (-(first + start)) % line)
            for i in range(start, aligned):
                target[i] = byte(source + i)
            whole = aligned + (end - aligned) // line * line
            for i in range(aligned, whole, line):
                store_line(first + i, source + i)
            for i in range(whole, end):
                target[i] = byte(source + i)
        fence()

    return kernel


@cache
def _intrinsics() -> tuple[Any, Any, Any, Any]:
    """What Numba lacks: addresses, reading at one, a streaming store, and a fence after them."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    byte_type, line_type = ir.IntType(8), ir.VectorType(ir.IntType(8), _LINE)

    @intrinsic
    def address_of(context, array):  # type: ignore[no-untyped-def]  # noqa: ARG001
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            view = context.make_array(signature.args[0])(context, builder, args[0])
            return builder.ptrtoint(view.data, ir.IntType(64))

        return types.int64(array), codegen

    @intrinsic
    def byte(context, address):  # type: ignore[no-untyped-def]  # noqa: ARG001
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]  # noqa: ARG001
            return builder.load(builder.inttoptr(args[0], byte_type.as_pointer()))

        return types.uint8(types.int64), codegen

    @intrinsic
    def store_line(context, target, source):  # type: ignore[no-untyped-def]  # noqa: ARG001
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]  # noqa: ARG001
            line = builder.load(builder.inttoptr(args[1], line_type.as_pointer()))
            line.align = 1
            store = builder.store(line, builder.inttoptr(args[0], line_type.as_pointer()), align=_LINE)
            hint = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
            store.set_metadata("nontemporal", hint)
            return ir.Constant(ir.IntType(32), 0)

        return types.int32(types.int64, types.int64), codegen

    @intrinsic
    def fence(context):  # type: ignore[no-untyped-def]  # noqa: ARG001
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]  # noqa: ARG001
            builder.fence("seq_cst")  # streaming stores are not ordered by an ordinary release
            return ir.Constant(ir.IntType(32), 0)

        return types.int32(), codegen

    return address_of, byte, store_line, fence
