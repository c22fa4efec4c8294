"""GradientBatch: the gradients of one step. Everything else stays in the StepPlan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from distopt.collectives import addresses_of
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import Tensor, as_array
from distopt.core.variable import Variable
from distopt.engine.reduction import weighted
from distopt.typing import Array

__all__ = ["GradientBatch", "Gradient", "weighted_gradient"]

#: A C-contiguous array of the variable's shape and dtype, or a sparse gradient.
Gradient: TypeAlias = "Array | IndexedSlices"


class GradientBatch:
    """Variables and their gradients as parallel tuples, to avoid one object per pair.

    Args:
        variables: the variables to update.
        given: the gradient of each: an array, Tensor or IndexedSlices of its shape and dtype.
        arrays: ``given`` as arrays, if all are known to be dense and C-contiguous.
        addresses: the addresses of ``arrays``, ``[n]`` int64.

    Attributes:
        gradients: ``given`` as C-contiguous arrays and IndexedSlices.
        addresses: the addresses of the gradients; of the values, for IndexedSlices.
        sparse: the indices of gradients that are IndexedSlices.
    """

    __slots__ = ("addresses", "given", "gradients", "sparse", "variables")

    def __init__(
        self,
        variables: tuple[Variable, ...],
        given: tuple[Any, ...],
        arrays: tuple[Array, ...] | None = None,
        addresses: Array | None = None,
    ) -> None:
        self.variables, self.given = variables, given
        self.gradients: tuple[Gradient, ...]
        self.sparse: tuple[int, ...] = ()
        if arrays is not None and addresses is not None:
            self.gradients, self.addresses = arrays, addresses
            return
        self.gradients = tuple(
            [g if isinstance(g, IndexedSlices) else np.asarray(as_array(g), order="C") for g in given]
        )
        self.sparse = tuple([i for i, g in enumerate(given) if isinstance(g, IndexedSlices)])
        self.addresses = addresses_of([_values(g) for g in self.gradients])

    def pairs(self) -> tuple[tuple[Any, Variable], ...]:
        """``(gradient, variable)`` pairs for hooks, aggregators and transformers, with arrays as Tensors."""
        tensors = [Tensor.from_numpy(g) if isinstance(g, np.ndarray) else g for g in self.given]
        return tuple(zip(tensors, self.variables, strict=True))

    def rows(self, place: int) -> IndexedSlices:
        """The sparse gradient at index ``place``."""
        gradient = self.gradients[place]
        assert isinstance(gradient, IndexedSlices)
        return gradient

    def with_gradients(self, gradients: Sequence[Any]) -> GradientBatch:
        """The same variables with other gradients."""
        return GradientBatch(self.variables, tuple(gradients))

    def rounds(self) -> list[GradientBatch]:
        """Splits the batch into rounds without duplicates: a variable that comes twice is updated twice."""
        rounds: list[list[int]] = []
        seen: dict[int, int] = {}
        for i, variable in enumerate(map(id, self.variables)):
            turn = seen[variable] = seen.get(variable, -1) + 1
            if turn == len(rounds):
                rounds.append([])
            rounds[turn].append(i)
        return [self] if len(rounds) == 1 else [self._part(members) for members in rounds]

    def _part(self, members: Sequence[int]) -> GradientBatch:
        gradients = tuple([self.given[i] for i in members])
        return GradientBatch(tuple([self.variables[i] for i in members]), gradients)


def weighted_gradient(gradient: Gradient, factor: int | None) -> Gradient:
    """A gradient times a factor, see :func:`~distopt.engine.reduction.weighted`."""
    if isinstance(gradient, IndexedSlices):
        values = weighted(as_array(gradient.values), factor)
        return IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return weighted(gradient, factor)


def _values(gradient: Gradient) -> Array:
    return as_array(gradient.values) if isinstance(gradient, IndexedSlices) else gradient
