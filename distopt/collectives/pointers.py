"""Compiled code on memory addresses: views, and copies to and from memory that other replicas read.

Ordinary stores leave data in the cache of the core. Another core reads them from there, which is fast or slow
depending on which cores they are. Streaming (non-temporal) stores write past the cache to memory. Measured
with 2 replicas and 25 M float32 parameters, ordinary and streaming stores take 18 and 22 ms a step in one
state of a virtual machine, and 31 and 14 ms in another.

All functions are at the top level of the module, so that Numba can cache them on disk.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from distopt.collectives import ledger_rows
from distopt.collectives.raw_memory import array_at, fence, inlined
from distopt.comm.precompile import precompiled

__all__ = [
    "account",
    "arrive",
    "array_at",
    "copy",
    "fence",
    "inlined",
    "memory_fence",
    "place",
    "receive",
    "send",
    "settle",
]

#: Bytes of one streaming store: a cache line.
_LINE = 64
_BYTE = ir.IntType(8)
_WHOLE_LINE = ir.VectorType(_BYTE, _LINE)
_NONE = ir.Constant(ir.IntType(32), 0)


@intrinsic
def place(typingctx: Any, array: Any = None) -> Any:  # noqa: ARG001
    """The address of an array's first element."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.ptrtoint(view.data, ir.IntType(64))

    return types.int64(array), codegen


@intrinsic
def _move_byte(typingctx: Any, target: Any = None, source: Any = None) -> Any:  # noqa: ARG001
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        to, source = (builder.inttoptr(address, _BYTE.as_pointer()) for address in args)
        builder.store(builder.load(source), to)
        return _NONE

    return types.int32(types.int64, types.int64), codegen


def _move_line(streamed: bool) -> Any:
    @intrinsic
    def move(typingctx: Any, target: Any = None, source: Any = None) -> Any:  # noqa: ARG001
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            to, source = (builder.inttoptr(address, _WHOLE_LINE.as_pointer()) for address in args)
            line = builder.load(source)
            line.align = 1
            store = builder.store(line, to, align=_LINE)
            if streamed:
                hint = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
                store.set_metadata("nontemporal", hint)
            return _NONE

        return types.int32(types.int64, types.int64), codegen

    return move


_stream_line, _store_line = _move_line(True), _move_line(False)


@precompiled("void()")
def memory_fence():  # type: ignore[no-untyped-def]
    """Orders reads: later reads see what other replicas wrote before the value that was just read."""
    fence()


@inlined
def copy(target, source, nbytes, streamed):  # type: ignore[no-untyped-def]
    """Copies bytes between two addresses; with streaming stores if ``streamed``, then call :func:`fence`."""
    aligned = min(nbytes, -target % _LINE)
    whole = aligned + (nbytes - aligned) // _LINE * _LINE
    for i in range(aligned):
        _move_byte(target + i, source + i)
    if streamed:
        for i in range(aligned, whole, _LINE):
            _stream_line(target + i, source + i)
    else:
        for i in range(aligned, whole, _LINE):
            _store_line(target + i, source + i)
    for i in range(whole, nbytes):
        _move_byte(target + i, source + i)


@precompiled("void(int64, int64[:, ::1], int64[::1])")
def send(row, segments, starts):  # type: ignore[no-untyped-def]
    """Copies segments of arrays to a row of the staging buffer, with streaming stores and a fence.

    Args:
        row: the address of the row.
        segments: ``[n, 4]``, rows of a table of ``Partition``.
        starts: the addresses of the arrays.
    """
    for k in range(len(segments)):
        copy(row + segments[k, 3], starts[segments[k, 0]] + segments[k, 1], segments[k, 2], True)
    fence()


@precompiled("void(int64, int64[:, ::1], int64[::1], boolean)")
def receive(row, segments, starts, streamed):  # type: ignore[no-untyped-def]
    """Copies a row of memory to segments of arrays.

    Args:
        row: the address of the row.
        segments: as for :func:`send`.
        starts: the addresses of the arrays.
        streamed: whether to use streaming stores.
    """
    for k in range(len(segments)):
        copy(starts[segments[k, 0]] + segments[k, 1], row + segments[k, 3], segments[k, 2], streamed)


@precompiled("void(int64, int64)")
def account(address, phase):  # type: ignore[no-untyped-def]
    """See :func:`ledger_rows.account`."""
    ledger_rows.account(address, phase)


@precompiled("void(int64, int64, int64)")
def arrive(address, call, step):  # type: ignore[no-untyped-def]
    """See :func:`ledger_rows.arrive`."""
    ledger_rows.arrive(address, call, step)


@precompiled("void(int64, int64, int64, int64)")
def settle(address, call, received, stride):  # type: ignore[no-untyped-def]
    """See :func:`ledger_rows.settle`."""
    ledger_rows.settle(address, call, received, stride)
