"""What one replica raises is told to all, so that none goes on without it."""

from __future__ import annotations

from contextlib import AbstractContextManager

from distopt.distribute import ReplicaContext
from distopt.errors import ReplicaFailed, ReplicaMismatch, ReplicaStalled

__all__ = ["Together"]


class Together(AbstractContextManager[None]):
    """A ``with`` block that all replicas go through; an error in it is raised on all of them.

    Args:
        context: the replica.
        call: what it is about, for messages.
    """

    def __init__(self, context: ReplicaContext, call: str) -> None:
        self._context, self._call = context, call

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or self._context.num_replicas_in_sync == 1:
            return
        if not isinstance(
            error, (ReplicaFailed, ReplicaMismatch, ReplicaStalled)
        ):  # of those the others know
            self._context.agreement.check(self._call, 0, lambda: self._call, error)
