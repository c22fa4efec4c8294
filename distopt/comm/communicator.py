"""Collectives: how a group of replicas exchanges bytes, and what one that shares memory can do besides."""

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
    """A group of replicas, seen from one of them.

    All methods are collective: every replica of the group calls them in the same order, which the headers of
    ``distopt.collectives.collective_check`` ensure. Arrays are contiguous; none of them is written to.

    Attributes:
        rank: this replica's number in the group.
        size: the number of replicas in the group.
        asynchronous: whether a replica can begin messages before the others are in the same call.
        waits: how long this replica has waited for what is tracked, and for whom; None if nobody asks.
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
        """Gives each replica's header (:data:`HEADER_BYTES` long) to all, by rank; a barrier too."""

    def begin_exchange(self, header: bytes) -> Callable[[], list[bytes]]:
        """The same; what is returned waits for the others, if this call has not."""
        rows = self.exchange(header)
        return lambda: rows

    @abstractmethod
    def all_gather(self, array: Array) -> list[Array]:
        """Each replica's array, by rank; shapes and dtypes are the same everywhere."""

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
        """Begins to send arrays to single replicas, and to receive arrays from single ones.

        Every replica of the group makes the call, also one that has nothing to send and to receive; calls on
        their way at once may be finished in any order.

        Args:
            sent: to whom, and what: 1-D, to be left as it is until the call is finished.
            received: from whom, and where to: of the same length and dtype as what is sent; if the group is
                ``asynchronous``, any room for as many bytes. Between two replicas there is one message each
                way at most.
            tag: tells calls apart that are on their way at once, below 2**15.
            came: told of each message that comes, if the group is ``asynchronous``.

        Returns:
            a function that goes on with it, if it can, and tells whether it is finished.
        """

    def channel(self) -> Communicator | None:
        """The same group with messages of its own, which each replica may begin at any time; collective.

        Returns:
            one that another thread may use too; None where the replicas have to meet for each message, or
            only one thread may send any.
        """
        return None

    def track(self, done: Callable[[], bool]) -> Callable[[], None]:
        """Looks after something that goes on only while it is looked at, in whatever is waited for.

        Args:
            done: looks, and tells whether it is finished.

        Returns:
            a function that waits for it.
        """

        def wait() -> None:
            while not done():
                pass

        return wait

    @abstractmethod
    def broadcast(self, array: Array, root: int = 0) -> Array:
        """``root``'s array on every replica; the others' arrays give shape and dtype."""

    @abstractmethod
    def gather_bytes(self, data: bytes) -> list[bytes]:
        """Each replica's bytes, of any length, by rank. For small things: texts and shapes."""


class NodeCommunicator(Communicator):
    """A group of replicas that share memory."""

    @abstractmethod
    def shared_block(self, nbytes: int, views: bool = False) -> SharedBlock | None:
        """Zero-filled memory that all replicas of the group see, or None where there is no room.

        All replicas get a block or none does.

        Args:
            nbytes: its length.
            views: whether ``comm.private_view`` is asked for views of it.
        """

    def run(self, code: CompiledCode, parts: int) -> None:
        """Runs compiled code in parts, with a barrier between two parts.

        Args:
            code: the code, called as :data:`distopt.comm.compiled.CompiledCode` says.
            parts: how many there are, the same on all replicas.
        """
        for part in range(parts):
            if part > 0:
                self.barrier()
            code(open_barrier(self.size), 0, part, part + 1)
