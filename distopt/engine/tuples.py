"""Loads and stores parameter and slots of an element as a tuple: one loop supports any number of slots.

LLVM does not vectorize a loop that indexes a tuple of arrays. These intrinsics generate one load and one
store per array, at base addresses that are constant in the loop, which LLVM vectorizes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.cgutils import unpack_tuple
from numba.extending import intrinsic

__all__ = ["addresses", "load", "store"]

_unpacked: Any = unpack_tuple
_tuple_of: Any = types.UniTuple


@intrinsic
def addresses(typingctx: Any, at: Any = None, like: Any = None, shift: Any = None) -> Any:  # noqa: ARG001
    """A tuple as long as ``like``, of the first elements of the int64 array ``at``, each plus ``shift``."""
    count = len(like)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        places = [builder.gep(data, [ir.Constant(ir.IntType(64), k)]) for k in range(count)]
        found = [builder.add(builder.load(place), args[2]) for place in places]
        return context.make_tuple(builder, signature.return_type, found)

    return _tuple_of(types.int64, count)(at, like, types.int64), codegen


@intrinsic
def load(typingctx: Any, begins: Any = None, i: Any = None, dtype: Any = None) -> Any:  # noqa: ARG001
    """Element ``i`` of each of the arrays of ``dtype`` at the addresses ``begins``, as a tuple."""
    count = len(begins)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.get_value_type(dtype.dtype).as_pointer()
        arrays = [builder.inttoptr(begin, kind) for begin in _unpacked(builder, args[0], count)]
        found = [builder.load(builder.gep(array, [args[1]])) for array in arrays]
        return context.make_tuple(builder, signature.return_type, found)

    return _tuple_of(dtype.dtype, count)(begins, types.int64, dtype), codegen


@intrinsic
def store(typingctx: Any, begins: Any = None, i: Any = None, values: Any = None) -> Any:  # noqa: ARG001
    """Writes a tuple of values to element ``i`` of each of the arrays at the addresses ``begins``."""
    count = len(begins)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        arrays, own = (_unpacked(builder, packed, count) for packed in (args[0], args[2]))
        for begin, value in zip(arrays, own, strict=True):
            array = builder.inttoptr(begin, value.type.as_pointer())
            builder.store(value, builder.gep(array, [args[1]]))
        return ir.Constant(ir.IntType(32), 0)

    return types.int32(begins, types.int64, values), codegen
