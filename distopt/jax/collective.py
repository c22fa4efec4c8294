"""Collective calls on arrays, as operations that compiled JAX functions can call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from distopt.core.tensor import as_array
from distopt.distribute import ReduceOp, ReplicaContext
from distopt.typing import Array

__all__ = ["Broadcast", "Collective", "Gather", "Reduce"]


class Collective(ABC):
    """One collective call, without its arrays: a frozen dataclass, as JAX compares them."""

    @abstractmethod
    def call(self, context: ReplicaContext, values: list[Array]) -> Sequence[Any]:
        """Makes the call; collective. The values may be read until it returns."""

    @abstractmethod
    def result(self, shape: tuple[int, ...], dtype: Any, replicas: int) -> tuple[tuple[int, ...], Any]:
        """The shape and dtype of the result for an array."""

    @abstractmethod
    def batched(self) -> Collective:
        """The same for arrays with one more axis in front, which vmap maps over."""

    @abstractmethod
    def transposed(self) -> Collective:
        """The call that computes the gradients of the arrays from those of the results.

        Raises:
            NotImplementedError: there are none.
        """


@final
@dataclass(frozen=True)
class Reduce(Collective):
    """``all_reduce``, by the name of a ReduceOp."""

    op: str

    def __str__(self) -> str:
        return f"all_reduce({self.op!r})"

    def call(self, context: ReplicaContext, values: list[Array]) -> Sequence[Any]:
        """See Collective."""
        return list(context.all_reduce(self.op, values))

    def result(self, shape: tuple[int, ...], dtype: Any, replicas: int) -> tuple[tuple[int, ...], Any]:
        """Means of integers are floating-point numbers, sums of Booleans counts."""
        if self.op == ReduceOp.MEAN.value and not jnp.issubdtype(dtype, jnp.inexact):
            return shape, jax.dtypes.canonicalize_dtype(np.float64)
        if self.op == ReduceOp.SUM.value and dtype == np.bool_:
            return shape, jax.dtypes.canonicalize_dtype(np.int64)
        return shape, dtype

    def batched(self) -> Collective:
        """Element by element."""
        return self

    def transposed(self) -> Collective:
        """A loss over all replicas depends on what each of them gave."""
        if self.op not in (ReduceOp.SUM.value, ReduceOp.MEAN.value):
            raise NotImplementedError(
                f"all_reduce({self.op!r}) has no derivative: only 'sum' and 'mean' have one; use "
                "jax.lax.stop_gradient(x) if you need none"
            )
        return self


@final
@dataclass(frozen=True)
class Gather(Collective):
    """``all_gather`` along an axis, 0 or more."""

    axis: int

    def __str__(self) -> str:
        return f"all_gather(axis={self.axis})"

    def call(self, context: ReplicaContext, values: list[Array]) -> Sequence[Any]:
        """See Collective."""
        return list(context.all_gather(values, self.axis))

    def result(self, shape: tuple[int, ...], dtype: Any, replicas: int) -> tuple[tuple[int, ...], Any]:
        """Inside of jit shapes must be known, so that all replicas' arrays have the same length."""
        return (*shape[: self.axis], shape[self.axis] * replicas, *shape[self.axis + 1 :]), dtype

    def batched(self) -> Collective:
        """One axis further."""
        return Gather(self.axis + 1)

    def transposed(self) -> Collective:
        """Each replica gets its part of the sum of all gradients."""
        return Scatter(self.axis)


@final
@dataclass(frozen=True)
class Broadcast(Collective):
    """``broadcast`` from one replica."""

    root: int

    def __str__(self) -> str:
        return f"broadcast(root={self.root})"

    def call(self, context: ReplicaContext, values: list[Array]) -> Sequence[Any]:
        """See Collective."""
        return list(context.broadcast(values, self.root))

    def result(self, shape: tuple[int, ...], dtype: Any, replicas: int) -> tuple[tuple[int, ...], Any]:
        """The same."""
        return shape, dtype

    def batched(self) -> Collective:
        """The whole array."""
        return self

    def transposed(self) -> Collective:
        """All comes back to the one."""
        return Collect(self.root)


@final
@dataclass(frozen=True)
class Scatter(Collective):
    """The sum over all replicas, of which each gets its part along an axis: the opposite of ``Gather``."""

    axis: int

    def __str__(self) -> str:
        return f"the derivative of {self.transposed()}"

    def call(self, context: ReplicaContext, values: list[Array]) -> Sequence[Any]:
        """See Collective."""
        totals = [as_array(total) for total in context.all_reduce("sum", values)]
        number, replicas = context.replica_id_in_sync_group, context.num_replicas_in_sync
        return [np.split(total, replicas, self.axis)[number] for total in totals]

    def result(self, shape: tuple[int, ...], dtype: Any, replicas: int) -> tuple[tuple[int, ...], Any]:
        """A part of as many as there are replicas."""
        return (*shape[: self.axis], shape[self.axis] // replicas, *shape[self.axis + 1 :]), dtype

    def batched(self) -> Collective:
        """One axis further."""
        return Scatter(self.axis + 1)

    def transposed(self) -> Collective:
        """All parts, joined."""
        return Gather(self.axis)


@final
@dataclass(frozen=True)
class Collect(Collective):
    """The sum over all replicas on one of them, zeros on the others: the opposite of ``Broadcast``."""

    root: int

    def __str__(self) -> str:
        return f"the derivative of {self.transposed()}"

    def call(self, context: ReplicaContext, values: list[Array]) -> Sequence[Any]:
        """See Collective."""
        totals = [as_array(total) for total in context.all_reduce("sum", values)]
        return totals if context.replica_id_in_sync_group == self.root else list(map(np.zeros_like, totals))

    def result(self, shape: tuple[int, ...], dtype: Any, replicas: int) -> tuple[tuple[int, ...], Any]:
        """The same."""
        return shape, dtype

    def batched(self) -> Collective:
        """The whole array."""
        return self

    def transposed(self) -> Collective:
        """The one's."""
        return Broadcast(self.root)
