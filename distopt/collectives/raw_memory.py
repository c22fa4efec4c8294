"""Memory addresses in compiled code: arrays at an address, and a memory fence."""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable

__all__ = ["array_at", "fence", "inlined"]

#: A decorator for functions that compiled code calls. Typed as Any: Numba's types do not fit such calls.
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
    """A full memory fence: call it after streaming stores, before other replicas are notified."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        builder.fence("seq_cst")  # streaming stores are not ordered by an ordinary release
        return _NONE

    return types.int32(), codegen


@inlined
def array_at(address, size, dtype):  # type: ignore[no-untyped-def]
    """A 1-D array of ``size`` elements at an address."""
    return carray(_pointer(address), size, dtype)
