"""Types of the arguments of public functions, for annotations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from distopt.core.indexed_slices import IndexedSlices
    from distopt.core.tensor import TensorLike
    from distopt.core.variable import Variable

__all__ = ["Aggregator", "Array", "DTypeLike", "Gradient", "GradsAndVars", "Nested", "Shape", "Transformer"]

Array: TypeAlias = npt.NDArray[Any]
DTypeLike: TypeAlias = npt.DTypeLike | None
Shape: TypeAlias = Sequence[int]
#: One value, or lists, tuples and dicts of values.
Nested: TypeAlias = Any
#: A gradient: an array, a tensor, sparse rows, or anything that NumPy can read.
Gradient: TypeAlias = "Array | TensorLike | IndexedSlices | np.generic | Sequence[Any] | float"
#: Pairs of a gradient and its variable.
GradsAndVars: TypeAlias = "Iterable[tuple[Any, Variable]]"
#: Combines gradients over replicas. It takes pairs and returns a pair for every variable.
Aggregator: TypeAlias = Callable[[Any], Any]
#: Changes gradients after aggregation. It takes pairs and returns pairs.
Transformer: TypeAlias = Callable[[Any], Any]
