"""ReplicaContext: a replica's number, the size of its job, and its collective calls."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.collectives import EXACT, CollectiveCheck, NodeAllReduce, ShardReduce, digest
from distopt.comm import SoloCommunicator, World
from distopt.distribute.collective_lock import CollectiveLock, collective_call
from distopt.distribute.frames import current_frame, frame
from distopt.distribute.group import ReplicaGroup
from distopt.distribute.reduce_op import ReduceOp
from distopt.distribute.values import regroup, select
from distopt.typing import Array, Nested

if TYPE_CHECKING:
    from distopt.distribute.strategy import Strategy

__all__ = ["ReplicaContext"]


class ReplicaContext:
    """A replica and its job: its number, the number of replicas, and the collective calls.

    Args:
        strategy: the strategy of the replica.
        world: the communicator to the other replicas.
        job: the context of the job if this is the context of a node; None for the whole job.
        numbers: the number in the job of each replica of ``world``. By default that in ``world``.
    """

    def __init__(
        self,
        strategy: Strategy,
        world: World,
        job: ReplicaContext | None = None,
        numbers: Sequence[int] | None = None,
    ) -> None:
        self._strategy = strategy
        # Weak, because the job's context refers to this.
        self._job = None if job is None else weakref.ref(job)
        #: The number of each replica in the job.
        self.numbers: Sequence[int] = range(world.comm.size) if numbers is None else numbers
        #: The groups that this replica belongs to.
        self.world = world
        #: The communicator of the job, for code that sends messages itself.
        self.comm = world.comm
        #: The headers that open every collective call.
        of_job: CollectiveCheck | None = None if job is None else job.collective_check
        self.collective_check: CollectiveCheck = CollectiveCheck(world, self._recall, self.numbers, of_job)
        self._shards: ShardReduce | None = None
        self._all_reduce: NodeAllReduce | None = None
        self._everyone = ReplicaGroup("", world.comm, self.collective_check.check, self._sum_up)
        self._node: ReplicaGroup | None = None
        self._nodes: ReplicaGroup | None = None
        #: Numbers of replicas, int64 ``[replicas of a node, nodes]``: a row for each rank on the nodes.
        self._by_rank: Array | None = None
        #: The lock that a thread holds during a collective call.
        self.lock = CollectiveLock(self.collective_check.ended)
        #: The step count of the optimizer that makes a step now, or made the last one.
        self.steps_made = 0
        #: State that lives as long as this replica is part of the job, such as the step engine.
        self.attached: dict[Any, Any] = {}

    @property
    def strategy(self) -> Strategy:
        """The active strategy."""
        return self._strategy

    @property
    def job(self) -> ReplicaContext:
        """The context of the whole job, which is this one unless it is that of a node."""
        found = None if self._job is None else self._job()
        return found or self

    @property
    def replica_id_in_sync_group(self) -> int:
        """The number of this replica, from 0."""
        return self.comm.rank

    @property
    def num_replicas_in_sync(self) -> int:
        """The number of replicas in the job."""
        return self.comm.size

    # Not cached properties: Python 3.11 holds a lock of the class over them, and replicas may be threads.
    @property
    def shards(self) -> ShardReduce:
        """Sums shards over all replicas. Created at the first use, which is collective."""
        if self._shards is None:
            self._shards = ShardReduce(self.world, self._strategy.options)
        return self._shards

    def _recall(self) -> None:
        """Cancels messages between nodes that were started before the header of their call was complete."""
        self.shards.recall()

    @property
    def _sum(self) -> NodeAllReduce:
        if self._all_reduce is None:
            self._all_reduce = NodeAllReduce(self.shards)
        return self._all_reduce

    @property
    def node(self) -> ReplicaGroup:
        """The replicas that share memory with this one. All nodes have the same number.

        If the nodes of a job differ in their numbers of replicas, each is divided into groups of equal size.
        Calls involve only these replicas: they send nothing to other nodes and do not wait for them. Sums
        follow a binary tree over the ranks in the node.
        """
        self._require_own()
        if self._node is None:
            world = self.world
            alone = replace(world, comm=world.node, cross=SoloCommunicator())
            header = self.collective_check.check_on_node
            self._node = ReplicaGroup("node", world.node, header, self._sums_in(alone))
        return self._node

    @property
    def nodes(self) -> ReplicaGroup:
        """The replicas of the same rank on all nodes, one for each node, ordered by node.

        All replicas of the job make the call, each for its part of the exchange. Shapes must be the same only
        on replicas of equal rank.
        """
        self._require_own()
        if self._nodes is None:
            world = self.world
            across = replace(world, comm=world.cross, node=SoloCommunicator())
            self._nodes = ReplicaGroup("nodes", world.cross, self._check_nodes, self._sums_in(across))
        return self._nodes

    def _sum_up(self, arrays: Sequence[Array], wire: str) -> list[Array]:
        return self._sum(arrays, wire, self.steps_made)

    def _sums_in(self, world: World) -> Callable[[Sequence[Array], str], list[Array]]:
        """Returns a function that sums arrays over the replicas of ``world``, for a ReplicaGroup.

        Its buffers are created at the first call.
        """
        all_reduce: list[NodeAllReduce] = []

        def sum_up(arrays: Sequence[Array], wire: str) -> list[Array]:
            if not all_reduce:
                all_reduce.append(NodeAllReduce(ShardReduce(world, self._strategy.options)))
            return all_reduce[0](arrays, wire, self.steps_made)

        return sum_up

    def _check_nodes(
        self, call: str, fingerprint: int, describe: Callable[[], str], error: Exception | None
    ) -> None:
        """The header of a call of :attr:`nodes`. All replicas of the job exchange it.

        Only replicas of the same rank on their nodes must have equal fingerprints. So the fingerprints are
        sent as flags, which every replica compares.
        """
        check = self.collective_check.check
        flags = check(call, 0, describe, error, flags=fingerprint >> 1)  # 63 bits: flags are signed
        if self._by_rank is None:
            world = self.world
            ranks = world.cross.all_gather(np.array([self.comm.rank]))
            self._by_rank = np.stack(world.node.all_gather(np.concatenate(ranks)))
        table = np.array(flags)[self._by_rank]
        if (table != table[:, :1]).any():
            check(call, fingerprint, describe)  # raises ReplicaMismatch on all replicas

    # -- collective calls
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
        self._require_own()
        return self._everyone.all_reduce(reduce_op, value, options, wire=wire)

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
        self._require_own()
        return self._everyone.all_gather(value, axis, options)

    def broadcast(self, value: Nested, root: int = 0) -> Nested:
        """Returns the value of replica ``root`` on all replicas. Shapes and dtypes must agree. Collective.

        Raises:
            ValueError: ``root`` is not a replica.
            TypeError: a value is not an array of numbers.
            ReplicaMismatch: the values of replicas differ in number, shape or dtype.
        """
        self._require_own()
        return self._everyone.broadcast(value, root)

    @collective_call
    def merge_call(
        self, merge_fn: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls ``merge_fn(strategy, *args, **kwargs)`` once in each process, in cross-replica context.

        Args:
            merge_fn: the function to call when all replicas have made this call.
            args: the arguments of this replica. Those that differ between the replicas of a process are
                passed as PerReplica.
            kwargs: keyword arguments, treated in the same way.

        Returns:
            The result of the function. From a PerReplica in it, each replica gets its own value.
        """
        self._require_own()
        name = getattr(merge_fn, "__name__", "merge_fn")
        self.collective_check.check("merge_call", digest(name), lambda: f"merge_call({name})")

        def merge(calls: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> Any:
            merged_args = regroup([list(c[0]) for c in calls]) if args else []
            merged_kwargs = {key: regroup([c[1][key] for c in calls]) for key in calls[0][1]}
            with frame(self._strategy, None, "merge"):
                return merge_fn(self._strategy, *merged_args, **merged_kwargs)

        local = self.world.local
        return select(local.run_once((args, kwargs or {}), merge), local.rank)

    def _require_own(self) -> None:
        """Raises RuntimeError in another replica of the process, which would wait forever."""
        context = current_frame().context
        if context is None or context.job is self.job:
            return
        if context.job.num_replicas_in_sync > 1:
            own, other = self.job.replica_id_in_sync_group, context.job.replica_id_in_sync_group
            raise RuntimeError(
                f"replica {other} uses the context of replica {own}. Replicas that are threads share the "
                "modules that they import: call get_replica_context() in the function that needs it, not "
                "when a module is imported"
            )

    def finish(self) -> None:
        """Reports that this replica has ended its program, so that replicas that wait for it learn of it.

        Raises:
            ReplicaMismatch: other replicas are still in a collective call.
        """
        self.collective_check.finish(self.lock.last())
