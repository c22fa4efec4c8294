"""Communicator: the interface of a group of replicas; NodeCommunicator: of a group that shares memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from distopt.comm.compiled import CompiledCode, open_barrier
from distopt.comm.memory import SharedBlock
from distopt.comm.peer_waits import Arrivals, PeerWaits
from distopt.typing import Array

__all__ = ["HEADER_BYTES", "Communicator", "NodeCommunicator"]

#: Every header has this length: it is one row in shared memory.
HEADER_BYTES = 64


class Communicator(ABC):
    """A group of replicas, as one of them sees it.

    All methods are collective: every replica of the group calls them in the same order, which the headers of
    ``distopt.collectives.collective_check`` ensure. Arrays are contiguous; none of them is modified.

    Attributes:
        rank: this replica's number in the group.
        size: the number of replicas in the group.
        asynchronous: whether a replica can start messages before the others are in the same call.
        waits: measures how long this replica waits for tracked messages, by sender; None to measure nothing.
    """

    rank: int
    size: int
    asynchronous = False
    waits: PeerWaits | None = None

    @abstractmethod
    def barrier(self) -> None:
        """Returns when all replicas have called it."""

    @abstractmethod
    def exchange(self, header: bytes) -> list[bytes]:
        """Sends each replica's header (:data:`HEADER_BYTES` long) to all, by rank. It is also a barrier."""

    def begin_exchange(self, header: bytes) -> Callable[[], list[bytes]]:
        """Starts :meth:`exchange` and returns a function that waits for the others, if this call has not."""
        rows = self.exchange(header)
        return lambda: rows

    @abstractmethod
    def all_gather(self, array: Array) -> list[Array]:
        """Returns the array of each replica, by rank. Shapes and dtypes are the same everywhere."""

    @abstractmethod
    def all_to_all(self, parts: Sequence[Array]) -> list[Array]:
        """Sends ``parts[d]`` to replica d and returns what each replica sent to this one, by rank.

        The parts are 1-D and of one dtype; ``parts[d]`` has the same length on every replica.
        """

    @abstractmethod
    def begin_messages(
        self,
        sent: Sequence[tuple[int, Array]],
        received: Sequence[tuple[int, Array]],
        tag: int = 0,
        came: Arrivals | None = None,
    ) -> Callable[[], bool]:
        """Starts to send arrays to single replicas and to receive arrays from single replicas.

        Every replica of the group makes the call, even if it has nothing to send or receive. Calls that
        are in progress at the same time may be finished in any order.

        Args:
            sent: pairs of a destination and a 1-D array, which must not change until the call is finished.
            received: pairs of a source and a buffer with the length and dtype of what is sent. If the group
                is ``asynchronous``, any buffer with the same number of bytes works. Between two replicas
                there is at most one message in each direction.
            tag: distinguishes calls that are in progress at the same time; below 2**15.
            came: its ``add`` is called for each message that arrives, if the group is ``asynchronous``.

        Returns:
            a function that makes progress, if possible, and returns whether the call is finished.
        """

    def channel(self) -> Communicator | None:
        """Returns the same group with its own messages, which a replica may start at any time; collective.

        Returns:
            a group that another thread may use too; None if the replicas must meet for each message, or if
            only one thread may send.
        """
        return None

    def track(self, done: Callable[[], bool]) -> Callable[[], None]:
        """Makes progress on an operation while this replica waits for anything else.

        Args:
            done: makes progress and returns whether the operation is finished.

        Returns:
            a function that waits for it.
        """

        def wait() -> None:
            while not done():
                pass

        return wait

    @abstractmethod
    def broadcast(self, array: Array, root: int = 0) -> Array:
        """Returns ``root``'s array on every replica. The arrays of the others give its shape and dtype."""

    @abstractmethod
    def gather_bytes(self, data: bytes) -> list[bytes]:
        """Returns the bytes of each replica, of any length, by rank. Use it for small data."""


class NodeCommunicator(Communicator):
    """A group of replicas that share memory."""

    @abstractmethod
    def shared_block(self, nbytes: int, views: bool = False) -> SharedBlock | None:
        """Creates zero-filled memory that all replicas of the group see, or returns None if there is no room.

        Either all replicas get a block or none does.

        Args:
            nbytes: its length.
            views: whether ``comm.private_view`` will be called for it.
        """

    def run(self, code: CompiledCode, parts: int) -> None:
        """Runs compiled code in parts, with a barrier between two parts.

        Args:
            code: the code, called as :data:`distopt.comm.compiled.CompiledCode` describes.
            parts: the number of parts, the same on all replicas.
        """
        for part in range(parts):
            if part > 0:
                self.barrier()
            code(open_barrier(self.size), 0, part, part + 1)
