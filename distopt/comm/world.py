"""World: the communicators of a replica."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from distopt.comm.communicator import Communicator, NodeCommunicator
from distopt.comm.local import LocalGroup
from distopt.comm.spans import SpanRecorder

__all__ = ["StatusWriter", "World"]


class StatusWriter(Protocol):
    """Records where this replica is, for the messages of replicas that wait for it."""

    def write(self, place: str, call: int, step: int) -> None:
        """Records where this replica is.

        Args:
            place: the call and its source line.
            call: the number of the collective call.
            step: the number of optimizer steps that this replica has started.
        """

    def add_remark(self, remark: Callable[[], str]) -> None:
        """Adds a remark to messages about a long wait: a function that returns a sentence or nothing."""


@dataclass(frozen=True)
class World:
    """All replicas of a job, as one of them sees it.

    Attributes:
        comm: all replicas.
        node: the replicas that share memory with this one; their number is the same on all nodes.
        cross: the replicas of equal rank within their nodes, one per node.
        local: the replicas of this process.
        status: records what this replica is doing.
        abort: ends the whole job immediately with an exit code.
        local_node: the replicas of this process that are on this node, which matters if nodes are simulated.
        spans: records spans of this replica for the timeline.
    """

    comm: Communicator
    node: NodeCommunicator
    cross: Communicator
    local: LocalGroup
    status: StatusWriter
    abort: Callable[[int], None]
    local_node: LocalGroup = field(default_factory=LocalGroup)
    spans: SpanRecorder = field(default_factory=SpanRecorder)
