"""ReplicaGroup: some or all replicas of a job, and the collective calls between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np

from distopt.collectives import EXACT, as_wire, digest, reduce_joined
from distopt.comm import Communicator
from distopt.core import nest
from distopt.core.dtypes import kind_of
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import Tensor, as_array, native
from distopt.distribute.collective_lock import collective_call
from distopt.distribute.derivatives import gathered, reduced
from distopt.distribute.means import combined, divided, summands
from distopt.distribute.reduce_op import ReduceOp
from distopt.typing import Array, Nested

__all__ = ["Header", "ReplicaGroup"]


class Header(Protocol):
    """Exchanges the header of a call, which checks that all replicas of the group are in the same call."""

    def __call__(
        self, call: str, fingerprint: int, describe: Callable[[], str], error: Exception | None, /
    ) -> object:
        """See ``CollectiveCheck.check``."""


class ReplicaGroup:
    """A group of replicas, as one of them sees it.

    Args:
        name: the name of the group, which precedes the names of its calls in messages; empty for all
            replicas.
        comm: its communicator.
        header: exchanges the header that starts each call.
        sum_up: a function from arrays of one dtype and a wire format to their sums over the group.

    Attributes:
        rank: this replica's number in the group.
        size: the number of replicas in the group.
    """

    def __init__(
        self,
        name: str,
        comm: Communicator,
        header: Header,
        sum_up: Callable[[Sequence[Array], str], list[Array]],
    ) -> None:
        self._prefix = f"{name}." if name else ""
        self._comm, self._header, self._sum_up = comm, header, sum_up
        self.rank, self.size = comm.rank, comm.size
        #: The fingerprints of earlier calls, by name, shapes and dtypes.
        self._fingerprints: dict[Any, int] = {}

    @collective_call
    def all_reduce(
        self, reduce_op: ReduceOp | str, value: Nested, options: Any = None, *, wire: str = EXACT
    ) -> Nested:
        """Reduces a value over all replicas, which all get the same bits. Tapes record sums and means.

        Collective.

        Args:
            reduce_op: ``"sum"``, ``"mean"``, ``"min"`` or ``"max"``, in any case, or a ReduceOp.
            value: an array, tensor, Variable, number or IndexedSlices, or lists, tuples and dicts of them.
                Shapes and dtypes must be the same on all replicas. IndexedSlices are supported by sum and
                mean only: the result is IndexedSlices with the rows of all replicas, in their order.
            options: accepted and ignored.
            wire: the format in which float32 values of a sum or mean are sent between nodes: ``"float32"``,
                ``"bf16"``, ``"fp16"`` or ``"int8"``. See ``aggregators.WireAggregator``.

        Returns:
            The same structure of tensors. The mean of integers or Booleans is float64 and as exact as float64
            allows. The mean of float16 or bfloat16 is summed in float32. The sum of Booleans is a count, in
            int64. Other sums have the dtype of the values, and its range.

        Raises:
            ValueError: the op or the wire is unknown, or a value is None.
            ReplicaMismatch: the values of replicas differ in number, shape or dtype, or their wires differ.
        """
        with self._share_errors(f"{self._prefix}all_reduce()"):
            op, wire = ReduceOp.from_any(reduce_op), as_wire(wire)
            by = "" if wire == EXACT else f", wire={wire!r}"
            call, leaves = f"{self._prefix}all_reduce({op.value!r}{by})", nest.flatten(value)
            _check_leaves(call, leaves, op)
            values = [_leaf(x) for x in leaves]
        self._check(call, values)
        return nest.pack(value, reduced(self, op, leaves, self._reduce_leaves(values, op, wire)))

    @collective_call
    def all_gather(self, value: Nested, axis: int, options: Any = None) -> Nested:
        """Joins the arrays of all replicas along ``axis``, in the order of the replicas. Tapes record it.

        Collective.

        Args:
            value: arrays or structures of them. Their lengths may differ between replicas along ``axis``
                only.
            axis: the axis to join along.
            options: accepted and ignored.

        Raises:
            ValueError: an array lacks the axis.
            TypeError: a value is not an array of numbers.
            ReplicaMismatch: the arrays of replicas differ in another way.
        """
        call, leaves = f"{self._prefix}all_gather(axis={axis})", nest.flatten(value)
        arrays: list[Array] = []
        with self._share_errors(call):
            for leaf in leaves:
                if leaf is None or not -as_array(leaf).ndim <= axis < as_array(leaf).ndim:
                    raise ValueError(f"{call} got {_shape_of(leaf)}, which has no such axis")
                _check_kind(call, leaf)
                arrays.append(np.ascontiguousarray(native(as_array(leaf))))
        # Lengths along the axis may differ, so they are left out of what is compared.
        self._check(call, [_Gathered(_any_length(a, axis), a.dtype) for a in arrays])
        results = [Tensor.from_numpy(_gather(self._comm, a, axis)) for a in arrays]
        return nest.pack(value, gathered(self, axis, leaves, results))

    @collective_call
    def broadcast(self, value: Nested, root: int = 0) -> Nested:
        """Returns the value of replica ``root`` on all replicas. Shapes and dtypes must agree. Collective.

        Raises:
            ValueError: ``root`` is not a replica.
            TypeError: a value is not an array of numbers.
            ReplicaMismatch: the values of replicas differ in number, shape or dtype.
        """
        call = f"{self._prefix}broadcast(root={root})"
        with self._share_errors(call):
            values = [native(as_array(x)) for x in nest.flatten(value)]
            for array in values:
                _check_kind(call, array)
            if not 0 <= root < self.size:
                raise ValueError(f"{call}: the replicas are 0 to {self.size - 1}")
        self._check(call, values)
        return nest.pack(
            value,
            [
                Tensor.from_numpy(self._comm.broadcast(np.ascontiguousarray(v), root).reshape(v.shape))
                for v in values
            ],
        )

    def _reduce_leaves(self, values: list[Any], op: ReduceOp, wire: str) -> list[Any]:
        """Reduces the leaves of a value. All dense leaves of one dtype are reduced in one call."""
        count = self.size
        sparse = [isinstance(v, IndexedSlices) for v in values]
        parts = [[] if rows else summands(v, op) for v, rows in zip(values, sparse, strict=True)]
        groups: dict[str, list[tuple[int, int]]] = {}
        for i, of_one in enumerate(parts):
            for k, part in enumerate(of_one):
                groups.setdefault(part.dtype.char, []).append((i, k))
        for members in groups.values():
            arrays = [parts[i][k] for i, k in members]
            summed = count > 1 and op in (ReduceOp.SUM, ReduceOp.MEAN)
            totals = self._sum_up(arrays, wire) if summed else reduce_joined(self._comm, op.value, arrays)
            for (i, k), total in zip(members, totals, strict=True):
                parts[i][k] = total
        return [
            _reduce_slices(self._comm, v, op) if rows else Tensor.from_numpy(combined(p, op, count, v.dtype))
            for v, p, rows in zip(values, parts, sparse, strict=True)
        ]

    @contextmanager
    def _share_errors(self, call: str) -> Iterator[None]:
        """A ``with`` block for checks of arguments: an error in it ends ``call`` on all replicas."""
        try:
            yield
        except Exception as error:
            self._header(call, 0, lambda: call, error)
            raise

    def _check(self, call: str, values: list[Any]) -> None:
        """Exchanges the header. All replicas must have the same call, shapes and dtypes."""
        key = (call, *((v.shape, v.dtype.char, isinstance(v, IndexedSlices)) for v in values))
        fingerprint = self._fingerprints.get(key)
        if fingerprint is None:
            fingerprint = self._fingerprints[key] = digest(repr(key))
        self._header(call, fingerprint, lambda: f"{call} of {_describe(values)}", None)


class _Gathered(NamedTuple):
    """What the replicas' arrays of an all_gather must have in common. The length along its axis is "any"."""

    shape: tuple[Any, ...]
    dtype: np.dtype[Any]


def _any_length(array: Array, axis: int) -> tuple[Any, ...]:
    axis %= array.ndim
    return (*array.shape[:axis], "any", *array.shape[axis + 1 :])


def _check_leaves(call: str, leaves: list[Any], op: ReduceOp) -> None:
    for leaf in leaves:
        if leaf is None:
            raise ValueError(f"{call} got None among its values: leave it out on all replicas")
        if isinstance(leaf, IndexedSlices) and op not in (ReduceOp.SUM, ReduceOp.MEAN):
            raise ValueError(f"{call} does not take IndexedSlices: only 'sum' and 'mean' do")
        if not isinstance(leaf, IndexedSlices):
            _check_kind(call, leaf)


def _check_kind(call: str, leaf: Any) -> None:
    array = as_array(leaf)
    if kind_of(array.dtype) not in "biufc":
        raise TypeError(f"{call} takes numbers; got {type(leaf).__name__} of dtype {array.dtype}")


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
    """Joins the replicas' arrays along ``axis``, where their lengths may differ."""
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
