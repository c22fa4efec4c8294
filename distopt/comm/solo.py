"""The world of a job with one replica: every collective is the identity."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from distopt.comm.communicator import NodeCommunicator
from distopt.comm.compiled import CompiledCode, open_barrier
from distopt.comm.local import LocalGroup
from distopt.comm.memory import SharedBlock, thread_block
from distopt.comm.peer_waits import Arrivals
from distopt.comm.world import World
from distopt.typing import Array

__all__ = ["SoloCommunicator", "solo_world"]


class SoloCommunicator(NodeCommunicator):
    """A group with a single replica. It never imports mpi4py."""

    rank = 0
    size = 1

    def barrier(self) -> None:
        """Returns at once."""

    def run(self, code: CompiledCode, parts: int) -> None:
        """Runs all parts at once."""
        code(open_barrier(1), 0, 0, parts)

    def exchange(self, header: bytes) -> list[bytes]:
        """Returns its own header."""
        return [header]

    def all_gather(self, array: Array) -> list[Array]:
        """Returns its own array."""
        return [array]

    def all_to_all(self, parts: Sequence[Array]) -> list[Array]:
        """Returns its own part."""
        return [parts[0]]

    def begin_messages(
        self,
        sent: Sequence[tuple[int, Array]],
        received: Sequence[tuple[int, Array]],
        tag: int = 0,
        came: Arrivals | None = None,
    ) -> Callable[[], bool]:
        """Receives what it sends."""
        for (_, source), (_, target) in zip(sent, received, strict=True):
            target[:] = source
        return lambda: True

    def broadcast(self, array: Array, root: int = 0) -> Array:
        """Returns its own array."""
        return array

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """Returns its own bytes."""
        return [data]

    def shared_block(self, nbytes: int, views: bool = False) -> SharedBlock | None:
        """Returns memory of this process."""
        return thread_block(nbytes, views)


class _NoStatus:
    """Records nothing: no replica waits for a single one."""

    def write(self, place: str, call: int, step: int) -> None:
        """See StatusWriter."""

    def add_remark(self, remark: Callable[[], str]) -> None:
        """See StatusWriter."""


def solo_world() -> World:
    """Returns the world of a single replica."""
    alone = SoloCommunicator()
    return World(alone, alone, alone, LocalGroup(), _NoStatus(), _exit)


def _exit(code: int) -> None:
    raise SystemExit(code)
