"""ReplicaContext: what code in a replica sees of the job, and how it talks to the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from distopt.collectives import CollectiveCheck, NodeAllReduce, ShardReduce, digest, reduce_joined
from distopt.comm import Communicator, World
from distopt.core import nest
from distopt.core.dtypes import kind_of
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import Tensor, as_array, native
from distopt.distribute.collective_lock import CollectiveLock, collective_call
from distopt.distribute.derivatives import gathered, reduced
from distopt.distribute.frames import frame
from distopt.distribute.means import combined, divided, summands
from distopt.distribute.reduce_op import ReduceOp
from distopt.distribute.values import regroup, select
from distopt.typing import Array, Nested

if TYPE_CHECKING:
    from distopt.distribute.strategy import Strategy

__all__ = ["ReplicaContext"]


class ReplicaContext:
    """One replica's place in its job.

    Args:
        strategy: the strategy that it runs under.
        world: how it reaches the other replicas.
    """

    def __init__(self, strategy: Strategy, world: World) -> None:
        self._strategy = strategy
        #: The groups that this replica belongs to.
        self.world = world
        #: The communicator of the job, for code that moves bytes itself.
        self.comm = world.comm
        #: The headers that open every collective call.
        self.collective_check = CollectiveCheck(world, self._recall)
        self._fingerprints: dict[Any, int] = {}
        self._shards: ShardReduce | None = None
        self._all_reduce: NodeAllReduce | None = None
        #: Held by the thread that is in a collective call.
        self.lock = CollectiveLock()
        #: State that lives as long as this replica's membership in the job, e.g. the step engine's.
        self.attached: dict[Any, Any] = {}

    @property
    def strategy(self) -> Strategy:
        """The strategy in force."""
        return self._strategy

    @property
    def replica_id_in_sync_group(self) -> int:
        """This replica's number, from 0."""
        return self.comm.rank

    @property
    def num_replicas_in_sync(self) -> int:
        """The number of replicas in the job."""
        return self.comm.size

    # Not cached properties: Python 3.11 holds a lock of the class over them, and replicas may be threads.
    @property
    def shards(self) -> ShardReduce:
        """Sums shards over all replicas; made, collectively, within the first call that needs it."""
        if self._shards is None:
            self._shards = ShardReduce(self.world, self._strategy.options)
        return self._shards

    def _recall(self) -> None:
        self.shards.recall()

    @property
    def _sum(self) -> NodeAllReduce:
        if self._all_reduce is None:
            self._all_reduce = NodeAllReduce(self.shards)
        return self._all_reduce

    # -- collective calls
    @collective_call
    def all_reduce(self, reduce_op: ReduceOp | str, value: Nested, options: Any = None) -> Nested:
        """Combines a value over all replicas; all get the same bits. Tapes follow sums and means.

        Args:
            reduce_op: ``"sum"``, ``"mean"``, ``"min"`` or ``"max"``, in any case, or a ReduceOp.
            value: array, tensor, Variable, number or IndexedSlices, or lists, tuples and dicts of
                them. Shapes and dtypes must be the same on every replica. IndexedSlices come back
                as such, the replicas' rows joined in their order; only sum and mean.
            options: accepted and ignored.

        Returns:
            the same structure of tensors. A mean of integers and Booleans is float64, and as exact as that
            can be; a mean of float16 or bfloat16 is summed in float32; a sum of Booleans is a count, int64.
            Other sums have their values' dtype, and its range.

        Raises:
            ValueError: an unknown op, or None among the values.
            ReplicaMismatch: the replicas' values differ in number, shape or dtype.
        """
        op = ReduceOp.from_any(reduce_op)
        leaves = nest.flatten(value)
        error = _leaf_error(leaves, op)
        values = [] if error else [_leaf(x) for x in leaves]
        self._check(f"all_reduce({op.value!r})", values, error)
        return nest.pack(value, reduced(self, op, leaves, self._reduce_leaves(values, op)))

    @collective_call
    def all_gather(self, value: Nested, axis: int, options: Any = None) -> Nested:
        """Joins the replicas' arrays along ``axis``, in the order of the replicas. Tapes follow it.

        Args:
            value: arrays or structures of them; they may differ in length along ``axis`` only.
            axis: the axis to join along.
            options: accepted and ignored.

        Raises:
            ValueError: an array has no such axis.
            TypeError: something that is no array of numbers.
            ReplicaMismatch: the replicas' arrays differ otherwise.
        """
        leaves = nest.flatten(value)
        error: Exception | None = None
        arrays: list[Array] = []
        for leaf in leaves:
            array = np.ascontiguousarray(native(as_array(leaf))) if leaf is not None else np.empty(0)
            if leaf is None or not -as_array(leaf).ndim <= axis < as_array(leaf).ndim:
                error = ValueError(f"all_gather(axis={axis}) got {_shape_of(leaf)}, which has no such axis")
            error = error or _kind_error(f"all_gather(axis={axis})", leaf)
            arrays.append(array)
        # Lengths along the axis may differ, so they are left out of what is compared.
        kinds = [] if error else [_Gathered(_any_length(a, axis), a.dtype) for a in arrays]
        self._check(f"all_gather(axis={axis})", kinds, error)
        results = [Tensor.from_numpy(_gather(self.comm, a, axis)) for a in arrays]
        return nest.pack(value, gathered(self, axis, leaves, results))

    @collective_call
    def broadcast(self, value: Nested, root: int = 0) -> Nested:
        """Replica ``root``'s value on every replica; shapes and dtypes must agree.

        Raises:
            ValueError: no such replica.
            TypeError: something that is no array of numbers.
            ReplicaMismatch: the replicas' values differ in number, shape or dtype.
        """
        values = [native(as_array(x)) for x in nest.flatten(value)]
        call = f"broadcast(root={root})"
        error = next((problem for x in values if (problem := _kind_error(call, x))), None)
        if not 0 <= root < self.comm.size:
            error = ValueError(f"{call}: the replicas are 0 to {self.comm.size - 1}")
        self._check(call, values if error is None else [], error)
        return nest.pack(
            value,
            [
                Tensor.from_numpy(self.comm.broadcast(np.ascontiguousarray(v), root).reshape(v.shape))
                for v in values
            ],
        )

    @collective_call
    def merge_call(
        self, merge_fn: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls ``merge_fn(strategy, *args, **kwargs)`` once a process, in cross-replica context.

        Args:
            merge_fn: what to call when all replicas have come here.
            args: this replica's arguments; those that differ between the replicas of one process
                arrive as PerReplica.
            kwargs: likewise.

        Returns:
            the function's result; of a PerReplica in it, this replica's value.
        """
        name = getattr(merge_fn, "__name__", "merge_fn")
        self.collective_check.check("merge_call", digest(name), lambda: f"merge_call({name})")

        def merge(calls: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> Any:
            merged_args = regroup([list(c[0]) for c in calls]) if args else []
            merged_kwargs = {key: regroup([c[1][key] for c in calls]) for key in calls[0][1]}
            with frame(self._strategy, None, "merge"):
                return merge_fn(self._strategy, *merged_args, **merged_kwargs)

        local = self.world.local
        return select(local.run_once((args, kwargs or {}), merge), local.rank)

    def finish(self) -> None:
        """Reports that this replica has ended its program, so that waiting replicas learn of it.

        Raises:
            ReplicaMismatch: other replicas are still in a collective call.
        """
        self.collective_check.finish(self.lock.last())

    def _reduce_leaves(self, values: list[Any], op: ReduceOp) -> list[Any]:
        """All dense leaves of one dtype travel together."""
        count = self.comm.size
        sparse = [isinstance(v, IndexedSlices) for v in values]
        parts = [[] if rows else summands(v, op) for v, rows in zip(values, sparse, strict=True)]
        groups: dict[str, list[tuple[int, int]]] = {}
        for i, of_one in enumerate(parts):
            for k, part in enumerate(of_one):
                groups.setdefault(part.dtype.char, []).append((i, k))
        for members in groups.values():
            arrays = [parts[i][k] for i, k in members]
            summed = count > 1 and op in (ReduceOp.SUM, ReduceOp.MEAN)
            totals = self._sum(arrays) if summed else reduce_joined(self.comm, op.value, arrays)
            for (i, k), total in zip(members, totals, strict=True):
                parts[i][k] = total
        return [
            _reduce_slices(self.comm, v, op) if rows else Tensor.from_numpy(combined(p, op, count, v.dtype))
            for v, p, rows in zip(values, parts, sparse, strict=True)
        ]

    def _check(self, call: str, values: list[Any], error: Exception | None) -> None:
        key = (call, *((v.shape, v.dtype.char, isinstance(v, IndexedSlices)) for v in values))
        fingerprint = self._fingerprints.get(key)
        if fingerprint is None:
            fingerprint = self._fingerprints[key] = digest(repr(key))
        self.collective_check.check(call, fingerprint, lambda: f"{call} of {_describe(values)}", error)


class _Gathered(NamedTuple):
    """An array to be joined with others, without its length along the axis."""

    shape: tuple[Any, ...]
    dtype: np.dtype[Any]


def _any_length(array: Array, axis: int) -> tuple[Any, ...]:
    axis %= array.ndim
    return (*array.shape[:axis], "any", *array.shape[axis + 1 :])


def _leaf_error(leaves: list[Any], op: ReduceOp) -> Exception | None:
    for leaf in leaves:
        if leaf is None:
            return ValueError(
                f"all_reduce({op.value!r}) got None among its values: leave it out on all replicas"
            )
        if isinstance(leaf, IndexedSlices) and op not in (ReduceOp.SUM, ReduceOp.MEAN):
            return ValueError(
                f"all_reduce({op.value!r}) does not take IndexedSlices: only 'sum' and 'mean' do"
            )
        if not isinstance(leaf, IndexedSlices) and (error := _kind_error(f"all_reduce({op.value!r})", leaf)):
            return error
    return None


def _kind_error(call: str, leaf: Any) -> Exception | None:
    array = as_array(leaf)
    if kind_of(array.dtype) in "biufc":
        return None
    return TypeError(f"{call} takes numbers; got {type(leaf).__name__} of dtype {array.dtype}")


def _leaf(value: Any) -> Any:
    if not isinstance(value, IndexedSlices):
        return native(as_array(value))
    values, indices = (native(as_array(part)) for part in (value.values, value.indices))
    return IndexedSlices(values, indices, value.dense_shape)


def _reduce_slices(comm: Communicator, slices: IndexedSlices, op: ReduceOp) -> IndexedSlices:
    values = _gather(comm, as_array(slices.values), 0)
    indices = _gather(comm, as_array(slices.indices), 0)
    if op is ReduceOp.MEAN:
        values = divided(values, comm.size)
    elif values.dtype.kind == "b":
        values = values.astype(np.int64)
    return IndexedSlices(Tensor.from_numpy(values), Tensor.from_numpy(indices), slices.dense_shape)


def _gather(comm: Communicator, array: Array, axis: int) -> Array:
    """The replicas' arrays joined along ``axis``; they may differ in length there."""
    if comm.size == 1:
        return array.copy()
    moved = np.ascontiguousarray(np.moveaxis(array, axis, 0))
    lengths = [int(n[0]) for n in comm.all_gather(np.array([len(moved)], np.int64))]
    padded = np.zeros((max(lengths), *moved.shape[1:]), moved.dtype)
    padded[: len(moved)] = moved
    rows = comm.all_gather(padded)
    joined = np.concatenate([row[:n] for row, n in zip(rows, lengths, strict=True)])
    return np.ascontiguousarray(np.moveaxis(joined, 0, axis))


def _describe(values: list[Any]) -> str:
    shown = ", ".join(
        f"{'rows of ' if isinstance(v, IndexedSlices) else ''}{v.dtype.name}"
        f"[{', '.join(map(str, v.shape or ()))}]"
        for v in values[:8]
    )
    more = f", ... ({len(values)} values)" if len(values) > 8 else ""
    return shown + more if values else "no values"


def _shape_of(leaf: Any) -> str:
    return "None" if leaf is None else f"a value of shape {as_array(leaf).shape}"
