"""ErrorBarrier: raises an error of one replica on all of them."""

from __future__ import annotations

from contextlib import AbstractContextManager

from distopt.distribute import ReplicaContext
from distopt.errors import ReplicaFailed, ReplicaMismatch, ReplicaStalled

__all__ = ["ErrorBarrier", "broadcast_error"]

#: All replicas raise these errors already.
_KNOWN = (ReplicaFailed, ReplicaMismatch, ReplicaStalled)


class ErrorBarrier(AbstractContextManager[None]):
    """A ``with`` block that all replicas enter. If it raises on one, the others raise :exc:`ReplicaFailed`.

    Args:
        context: the replica's context; None in cross-replica context, where no other replica waits.
        call: name of the call, for messages.
    """

    def __init__(self, context: ReplicaContext | None, call: str) -> None:
        self._context, self._call = context, call

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and self._context is not None:
            broadcast_error(self._context, self._call, error)


def broadcast_error(context: ReplicaContext, call: str, error: Exception) -> None:
    """Raises ``error`` here, and :exc:`ReplicaFailed` on the other replicas at their next header.

    Returns if all replicas raise it already, or if there is only one replica.
    """
    if context.num_replicas_in_sync > 1 and not isinstance(error, _KNOWN):
        context.collective_check.check(call, 0, lambda: call, error)
