"""ErrorBarrier: an error of one replica stops all of them."""

from __future__ import annotations

from contextlib import AbstractContextManager

from distopt.distribute import ReplicaContext
from distopt.errors import ReplicaFailed, ReplicaMismatch, ReplicaStalled

__all__ = ["ErrorBarrier", "broadcast_error"]

#: Of these the others know.
_KNOWN = (ReplicaFailed, ReplicaMismatch, ReplicaStalled)


class ErrorBarrier(AbstractContextManager[None]):
    """A ``with`` block that all replicas go through; an error in it is raised on all of them.

    Args:
        context: the replica; None in cross-replica context, where no other one waits.
        call: what it is about, for messages.
    """

    def __init__(self, context: ReplicaContext | None, call: str) -> None:
        self._context, self._call = context, call

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and self._context is not None:
            broadcast_error(self._context, self._call, error)


def broadcast_error(context: ReplicaContext, call: str, error: Exception) -> None:
    """Tells all replicas, which are on their way to ``call``, what this one is about to raise."""
    if context.num_replicas_in_sync > 1 and not isinstance(error, _KNOWN):
        context.collective_check.check(call, 0, lambda: call, error)
