"""State of each replica in layers and models that the replicas of one process may share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from distopt.core.assignment import assign_alike
from distopt.distribute import get_replica_context
from distopt.engine.error_barrier import ErrorBarrier

__all__ = ["PerReplicaState", "assign_alike", "done_together", "this_replica", "wait_for_all"]

T = TypeVar("T")


def this_replica() -> int:
    """The number of the replica that runs this code, 0 between replicas."""
    context = get_replica_context()
    return 0 if context is None else int(context.replica_id_in_sync_group)


def wait_for_all() -> None:
    """Comes back when all replicas have come: so none changes what others, who share it, have yet to read."""
    context = get_replica_context()
    if context is not None and context.num_replicas_in_sync > 1:
        context.all_reduce("sum", 0)


def done_together(call: str, work: Callable[[], None]) -> None:
    """Runs ``work``, and comes back when all replicas have; what one of them raises is an error on all.

    Args:
        call: the user's, for messages.
        work: what this replica does.

    Raises:
        ReplicaFailed: another replica's ``work`` has raised.
    """
    context = get_replica_context()
    if context is None:
        work()
        return
    with ErrorBarrier(context, call):
        work()
    wait_for_all()


class PerReplicaState(Generic[T]):
    """A value for each replica, made when the replica first asks for it.

    Args:
        make: makes one.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: dict[int, T] = {}

    def local(self) -> T:
        """This replica's; between replicas that of replica 0."""
        replica = this_replica()
        if replica not in self._values:
            self._values[replica] = self._make()
        return self._values[replica]
