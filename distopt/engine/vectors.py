"""Vectors: generates LLVM code for loads, stores and fused multiply-adds of SIMD vectors."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

__all__ = ["Vectors", "size_of"]

_cgutils: Any = cgutils


class Vectors:
    """Generates loads, stores and fused multiply-adds of vectors. Addresses are aligned to one number.

    Args:
        builder: LLVM's instruction builder.
        scalar: LLVM's type of a number: float or double.
        lanes: how many numbers a vector has; a vector of 1 is a scalar.
    """

    def __init__(self, builder: Any, scalar: Any, lanes: int) -> None:
        self._builder, self._scalar = builder, scalar
        self.size = size_of(scalar)
        self.lanes = lanes
        self.type = ir.VectorType(scalar, lanes) if lanes > 1 else scalar
        kind = ir.FunctionType(self.type, [self.type] * 3)
        name = f"llvm.fma.{f'v{lanes}' if lanes > 1 else ''}f{8 * self.size}"
        self._fma = _cgutils.get_or_insert_function(builder.module, kind, name)

    def load(self, address: Any) -> Any:
        """The vector at an address."""
        return self._builder.load(self._builder.inttoptr(address, self.type.as_pointer()), align=self.size)

    def store(self, value: Any, address: Any) -> None:
        """Writes a vector to an address."""
        pointer = self._builder.inttoptr(address, self.type.as_pointer())
        self._builder.store(value, pointer, align=self.size)

    def load_spread(self, address: Any) -> Any:
        """The number at an address, in all lanes."""
        return self.spread(self._builder.load(self._builder.inttoptr(address, self._scalar.as_pointer())))

    def spread(self, number: Any) -> Any:
        """A number in all lanes."""
        if self.lanes == 1:
            return number
        nothing = ir.Constant(self.type, ir.Undefined)
        one = self._builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self._builder.shuffle_vector(one, nothing, lanes)

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        """``x * y + z``, rounded once."""
        return self._builder.call(self._fma, [x, y, z])


def size_of(scalar: Any) -> int:
    """The bytes of a number."""
    return 4 if isinstance(scalar, ir.FloatType) else 8
