"""Variables, tensors, sparse gradients, nested structures, random streams."""

from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import Tensor, constant, convert_to_tensor
from distopt.core.variable import Variable, VariableAggregation, VariableSynchronization

__all__ = [
    "IndexedSlices",
    "Tensor",
    "Variable",
    "VariableAggregation",
    "VariableSynchronization",
    "constant",
    "convert_to_tensor",
]
