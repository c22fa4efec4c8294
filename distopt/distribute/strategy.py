"""Strategy: the base class of the strategies, which define the replicas of a job."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from distopt.core import nest
from distopt.core.keywords import KnownArguments
from distopt.core.tensor import Tensor, as_array, native
from distopt.distribute.context import ReplicaContext
from distopt.distribute.frames import frame, require_cross_replica, require_unmixed
from distopt.distribute.means import combined, summands
from distopt.distribute.reduce_op import ReduceOp
from distopt.distribute.values import PerReplica
from distopt.settings import Settings
from distopt.typing import Nested

__all__ = ["Strategy", "reduce_over_axis"]


class Strategy(KnownArguments, ABC):
    """The replicas of a job, and how to run code on them."""

    #: The settings of the job, such as ``memory``.
    options: Settings

    @property
    @abstractmethod
    def num_replicas_in_sync(self) -> int:
        """The number of replicas in the job."""

    @property
    def local_replicas(self) -> int:
        """The number of replicas that ``run()`` starts in this process."""
        return 1

    @abstractmethod
    def run(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        options: Any = None,
    ) -> Any:
        """Runs ``fn`` in replica context on every replica.

        Of a PerReplica argument, each replica gets its own value.
        """

    @abstractmethod
    def _on_replicas(self, value: Nested, call: Callable[[ReplicaContext, Any], Any]) -> Any:
        """Calls ``call(context, value)`` on each replica of this process, in replica context.

        Args:
            value: a structure; of each PerReplica in it, a replica gets its own value.
            call: a function that makes a collective call.

        Returns:
            The results, as PerReplica if there are several.
        """

    @contextmanager
    def scope(self) -> Iterator[Strategy]:
        """Makes this the active strategy, in cross-replica context, for the time of a ``with`` block.

        Raises:
            RuntimeError: called inside ``run()``, or inside the scope of another strategy.
        """
        require_cross_replica("scope()")
        require_unmixed(self)
        with frame(self, None, "scope"):
            yield self

    def reduce(self, reduce_op: ReduceOp | str, value: Nested, axis: int | None) -> Nested:
        """Reduces a result of ``run`` over all replicas.

        Args:
            reduce_op: sum, mean, min or max.
            value: the values of the replicas, or a structure of them.
            axis: None, or an axis of each value to reduce over as well. A mean then divides by the total
                length, so that values of different lengths are weighted correctly.

        Raises:
            RuntimeError: called inside ``run()``.
            ValueError: the op is unknown.
        """
        require_cross_replica("reduce()")
        op = ReduceOp.from_any(reduce_op)
        return self._on_replicas(value, lambda context, own: reduce_over_axis(context, op, own, axis))

    def gather(self, value: Nested, axis: int) -> Nested:
        """Joins a result of ``run`` along ``axis``, in the order of the replicas."""
        require_cross_replica("gather()")
        return self._on_replicas(value, lambda context, own: context.all_gather(own, axis))

    def experimental_local_results(self, value: Any) -> tuple[Any, ...]:
        """Returns the values of the replicas of this process."""
        return value.values if isinstance(value, PerReplica) else (value,)


_LOCAL: dict[str, Callable[..., Any]] = {"sum": np.sum, "min": np.min, "max": np.max}


def reduce_over_axis(context: ReplicaContext, op: ReduceOp, value: Nested, axis: int | None) -> Nested:
    """What :meth:`Strategy.reduce` does on each replica. Collective.

    Args:
        context: the context of the replica.
        op: the reduction.
        value: the arrays of this replica, or a structure of them.
        axis: None, or the axis to reduce over as well.
    """
    if axis is None:
        return context.all_reduce(op, value)

    def one(leaf: Any) -> Tensor:
        array = native(as_array(leaf))
        if op is not ReduceOp.MEAN:
            result: Tensor = context.all_reduce(op, _LOCAL[op.value](array, axis=axis))
            return result
        local = [np.sum(part, axis=axis) for part in summands(array, op)]
        count, *totals = map(as_array, context.all_reduce("sum", [np.int64(array.shape[axis]), *local]))
        with np.errstate(all="ignore"):  # a mean of nothing is NaN
            return Tensor.from_numpy(combined([np.array(t) for t in totals], op, count.item(), array.dtype))

    return nest.map_structure(one, value)
