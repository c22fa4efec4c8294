"""Memory by its address, in compiled code: views of it, and copies into what others read.

What one core writes the usual way lies in its cache, where other cores find it quickly or slowly, as
they lie to each other; by streaming (non-temporal) stores it goes past the cache into memory at once.
Measured with 2 replicas, 25 M float32 parameters: ordinary and streaming stores take 18 and 22 ms a step
in one state of a virtual machine, 31 and 14 ms in another.

All of it stands at the top level of the module, so that what is compiled can be kept on disk.
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
    """What other replicas have written before what was just read is seen from now on."""
    fence()


@inlined
def copy(target, source, nbytes, streamed):  # type: ignore[no-untyped-def]
    """Copies bytes from one address to another, past the cache if ``streamed``."""
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
def send(row, pieces, starts):  # type: ignore[no-untyped-def]
    """Copies pieces of arrays to a row of memory, past the cache.

    When it returns, a replica that is notified next finds them there.

    Args:
        row: its address.
        pieces: for each the array's number, the first byte there, how many, and their place in the row.
        starts: the addresses of the arrays.
    """
    for k in range(len(pieces)):
        copy(row + pieces[k, 3], starts[pieces[k, 0]] + pieces[k, 1], pieces[k, 2], True)
    fence()


@precompiled("void(int64, int64[:, ::1], int64[::1], boolean)")
def receive(row, pieces, starts, streamed):  # type: ignore[no-untyped-def]
    """Copies a row of memory to pieces of arrays.

    Args:
        row: its address.
        pieces: as for :func:`send`.
        starts: the addresses of the arrays.
        streamed: whether past the cache.
    """
    for k in range(len(pieces)):
        copy(starts[pieces[k, 0]] + pieces[k, 1], row + pieces[k, 3], pieces[k, 2], streamed)


@precompiled("void(int64, int64)")
def account(address, phase):  # type: ignore[no-untyped-def]
    """A phase begins: see ``ledger_rows``."""
    ledger_rows.account(address, phase)


@precompiled("void(int64, int64, int64)")
def arrive(address, call, step):  # type: ignore[no-untyped-def]
    """A replica has come to a header: see ``ledger_rows``."""
    ledger_rows.arrive(address, call, step)


@precompiled("void(int64, int64, int64, int64)")
def settle(address, call, received, stride):  # type: ignore[no-untyped-def]
    """All have come: see ``ledger_rows``."""
    ledger_rows.settle(address, call, received, stride)
