"""World: the groups that a replica belongs to, each with an interface of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from distopt.comm.communicator import Communicator, NodeCommunicator
from distopt.comm.local import LocalGroup
from distopt.comm.spans import SpanRecorder

__all__ = ["StatusWriter", "World"]


class StatusWriter(Protocol):
    """Takes down where this replica is, for the messages of those that wait for it."""

    def write(self, place: str, call: int, step: int) -> None:
        """Says where this replica is.

        Args:
            place: the call and its source line.
            call: the number of the collective call.
            step: how many optimizer steps this replica has begun.
        """

    def add_remark(self, remark: Callable[[], str]) -> None:
        """What else this replica's message about a long wait says: a sentence, or nothing."""


@dataclass(frozen=True)
class World:
    """All replicas of a job, seen from one of them.

    Attributes:
        comm: all of them.
        node: those that share memory with this one; on all nodes as many.
        cross: those of equal rank within their nodes, one a node.
        local: those of this process.
        status: where this replica says what it is doing.
        abort: ends the whole job at once with an exit code.
        local_node: those of this process that are of this node; the one, by default.
        spans: what this replica did when, if somebody wants to know.
    """

    comm: Communicator
    node: NodeCommunicator
    cross: Communicator
    local: LocalGroup
    status: StatusWriter
    abort: Callable[[int], None]
    local_node: LocalGroup = field(default_factory=LocalGroup)
    spans: SpanRecorder = field(default_factory=SpanRecorder)
