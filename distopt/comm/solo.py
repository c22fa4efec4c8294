"""The communicator of a job of one replica: every collective is the identity."""

from __future__ import annotations

from collections.abc import Sequence

from distopt.comm.communicator import Code, Communicator, everyone_came
from distopt.comm.memory import SharedBlock, thread_block
from distopt.typing import Array

__all__ = ["SoloCommunicator"]


class SoloCommunicator(Communicator):
    """One replica, alone; never imports mpi4py."""

    rank = 0
    size = 1

    def barrier(self) -> None:
        """Returns at once."""

    def run(self, code: Code, parts: int) -> None:
        """All parts at once."""
        code(everyone_came(1), 0, 0, parts)

    def exchange(self, header: bytes) -> list[bytes]:
        """The own header."""
        return [header]

    def all_gather(self, array: Array) -> list[Array]:
        """The own array."""
        return [array]

    def all_to_all(self, parts: Sequence[Array]) -> list[Array]:
        """The own part."""
        return [parts[0]]

    def broadcast(self, array: Array, root: int = 0) -> Array:
        """The own array."""
        return array

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """The own bytes."""
        return [data]

    @property
    def node(self) -> Communicator:
        """Itself."""
        return self

    @property
    def cross(self) -> Communicator:
        """Itself."""
        return self

    def shared_block(self, nbytes: int) -> SharedBlock | None:
        """Memory of this process."""
        return thread_block(nbytes)

    def note(self, place: str, call: int, step: int) -> None:
        """Nobody waits for a replica that is alone."""

    def abort(self, code: int) -> None:
        """Raises SystemExit: there is no one else to end."""
        raise SystemExit(code)
