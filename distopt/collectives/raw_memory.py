"""Memory by its address, in compiled code, and an order of what is written there."""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable

__all__ = ["array_at", "fence", "inlined"]

#: Without the types that Numba gives them: a function that is inlined takes what compiled code gives it.
inlined: Any = register_jitable
carray: Any = numba.carray  # type: ignore[attr-defined]

_BYTE = ir.IntType(8)
_NONE = ir.Constant(ir.IntType(32), 0)


@intrinsic
def _pointer(typingctx: Any, address: Any = None) -> Any:  # noqa: ARG001
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        return builder.inttoptr(args[0], _BYTE.as_pointer())

    return types.voidptr(types.int64), codegen


@intrinsic
def fence(typingctx: Any = None) -> Any:  # noqa: ARG001
    """Before other replicas are notified of what has been streamed."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        builder.fence("seq_cst")  # streaming stores are not ordered by an ordinary release
        return _NONE

    return types.int32(), codegen


@inlined
def array_at(address, size, dtype):  # type: ignore[no-untyped-def]
    """The memory at an address as a 1-D array."""
    return carray(_pointer(address), size, dtype)
