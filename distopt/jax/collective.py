"""Collective: a kind of collective call, with its result types, derivative and batching rule for JAX."""

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
    """The kind of a collective call and its options.

    Subclasses are frozen dataclasses, because JAX compares them.
    """

    @abstractmethod
    def call(self, context: ReplicaContext, values: list[Array]) -> Sequence[Any]:
        """Makes the call, and returns a result for each value. Collective."""

    @abstractmethod
    def result(self, shape: tuple[int, ...], dtype: Any, replicas: int) -> tuple[tuple[int, ...], Any]:
        """The shape and dtype of the result for an array of this shape and dtype."""

    @abstractmethod
    def batched(self) -> Collective:
        """The call that does the same for arrays with an additional axis 0, over which vmap maps."""

    @abstractmethod
    def transposed(self) -> Collective:
        """The call that computes the gradients of the arrays from the gradients of the results.

        Raises:
            NotImplementedError: the call has no derivative.
        """


@final
@dataclass(frozen=True)
class Reduce(Collective):
    """``all_reduce``. ``op`` is the value of a ReduceOp."""

    op: str

    def __str__(self) -> str:
        return f"all_reduce({self.op!r})"

    def call(self, context: ReplicaContext, values: list[Array]) -> Sequence[Any]:
        """See Collective."""
        return list(context.all_reduce(self.op, values))

    def result(self, shape: tuple[int, ...], dtype: Any, replicas: int) -> tuple[tuple[int, ...], Any]:
        """The mean of integers is a float, and the sum of Booleans an integer; in JAX's default precision."""
        if self.op == ReduceOp.MEAN.value and not jnp.issubdtype(dtype, jnp.inexact):
            return shape, jax.dtypes.canonicalize_dtype(np.float64)
        if self.op == ReduceOp.SUM.value and dtype == np.bool_:
            return shape, jax.dtypes.canonicalize_dtype(np.int64)
        return shape, dtype

    def batched(self) -> Collective:
        """The same call: it works elementwise."""
        return self

    def transposed(self) -> Collective:
        """The same reduction of the gradients, because the result depends on the array of each replica."""
        if self.op not in (ReduceOp.SUM.value, ReduceOp.MEAN.value):
            raise NotImplementedError(
                f"all_reduce({self.op!r}) has no derivative: only 'sum' and 'mean' have one; use "
                "jax.lax.stop_gradient(x) if you need none"
            )
        return self


@final
@dataclass(frozen=True)
class Gather(Collective):
    """``all_gather`` along ``axis``, which is not negative."""

    axis: int

    def __str__(self) -> str:
        return f"all_gather(axis={self.axis})"

    def call(self, context: ReplicaContext, values: list[Array]) -> Sequence[Any]:
        """See Collective."""
        return list(context.all_gather(values, self.axis))

    def result(self, shape: tuple[int, ...], dtype: Any, replicas: int) -> tuple[tuple[int, ...], Any]:
        """See Collective. Inside jit, the arrays of all replicas must have the same length."""
        return (*shape[: self.axis], shape[self.axis] * replicas, *shape[self.axis + 1 :]), dtype

    def batched(self) -> Collective:
        """The same along the axis after it."""
        return Gather(self.axis + 1)

    def transposed(self) -> Collective:
        """A scatter: each replica gets its part of the sum of all gradients."""
        return Scatter(self.axis)


@final
@dataclass(frozen=True)
class Broadcast(Collective):
    """``broadcast`` from replica ``root``."""

    root: int

    def __str__(self) -> str:
        return f"broadcast(root={self.root})"

    def call(self, context: ReplicaContext, values: list[Array]) -> Sequence[Any]:
        """See Collective."""
        return list(context.broadcast(values, self.root))

    def result(self, shape: tuple[int, ...], dtype: Any, replicas: int) -> tuple[tuple[int, ...], Any]:
        """Those of the array."""
        return shape, dtype

    def batched(self) -> Collective:
        """The same call: it takes arrays of any shape."""
        return self

    def transposed(self) -> Collective:
        """The sum of all gradients goes to ``root``."""
        return Collect(self.root)


@final
@dataclass(frozen=True)
class Scatter(Collective):
    """Reduce-scatter, the derivative of ``Gather``: each replica gets its part of the sum along ``axis``."""

    axis: int

    def __str__(self) -> str:
        return f"the derivative of {self.transposed()}"

    def call(self, context: ReplicaContext, values: list[Array]) -> Sequence[Any]:
        """See Collective."""
        totals = [as_array(total) for total in context.all_reduce("sum", values)]
        number, replicas = context.replica_id_in_sync_group, context.num_replicas_in_sync
        return [np.split(total, replicas, self.axis)[number] for total in totals]

    def result(self, shape: tuple[int, ...], dtype: Any, replicas: int) -> tuple[tuple[int, ...], Any]:
        """One of as many equal parts as there are replicas."""
        return (*shape[: self.axis], shape[self.axis] // replicas, *shape[self.axis + 1 :]), dtype

    def batched(self) -> Collective:
        """The same along the axis after it."""
        return Scatter(self.axis + 1)

    def transposed(self) -> Collective:
        """A gather of the parts."""
        return Gather(self.axis)


@final
@dataclass(frozen=True)
class Collect(Collective):
    """Reduce: the sum over all replicas on ``root``, zeros on the others. The derivative of ``Broadcast``."""

    root: int

    def __str__(self) -> str:
        return f"the derivative of {self.transposed()}"

    def call(self, context: ReplicaContext, values: list[Array]) -> Sequence[Any]:
        """See Collective."""
        totals = [as_array(total) for total in context.all_reduce("sum", values)]
        return totals if context.replica_id_in_sync_group == self.root else list(map(np.zeros_like, totals))

    def result(self, shape: tuple[int, ...], dtype: Any, replicas: int) -> tuple[tuple[int, ...], Any]:
        """Those of the array."""
        return shape, dtype

    def batched(self) -> Collective:
        """The same call: it takes arrays of any shape."""
        return self

    def transposed(self) -> Collective:
        """A broadcast of the gradient of ``root``."""
        return Broadcast(self.root)
