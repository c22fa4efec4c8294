"""Collectives: how a group of replicas exchanges bytes, and what one that shares memory can do besides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from distopt.comm.compiled import CompiledCode, open_barrier
from distopt.comm.memory import SharedBlock
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
    """

    rank: int
    size: int

    @abstractmethod
    def barrier(self) -> None:
        """Returns when all replicas have called it."""

    @abstractmethod
    def exchange(self, header: bytes) -> list[bytes]:
        """Gives each replica's header (:data:`HEADER_BYTES` long) to all, by rank; a barrier too."""

    @abstractmethod
    def all_gather(self, array: Array) -> list[Array]:
        """Each replica's array, by rank; shapes and dtypes are the same everywhere."""

    @abstractmethod
    def all_to_all(self, parts: Sequence[Array]) -> list[Array]:
        """Sends ``parts[d]`` to replica d and returns what each replica sent to this one, by rank.

        The parts are 1-D and of one dtype; ``parts[d]`` has the same length on every replica.
        """

    def begin_all_to_all(self, flat: Array, lengths: Sequence[int]) -> Callable[[], Array]:
        """Begins an :meth:`all_to_all`, which goes on while this replica does other things, if it can.

        Args:
            flat: the parts one after the other, 1-D, which stays as it is until they are fetched.
            lengths: theirs, in elements.

        Returns:
            a function that waits for what each replica sent to this one, one after the other.
        """
        received = np.concatenate(self.all_to_all(np.split(flat, np.cumsum(lengths)[:-1])))
        return lambda: received

    def begin_all_gather(self, part: Array, lengths: Sequence[int]) -> Callable[[], Array]:
        """Begins an :meth:`all_gather` of parts of different lengths; as :meth:`begin_all_to_all`.

        Args:
            part: this replica's, 1-D.
            lengths: those of all replicas' parts, in elements.
        """
        padded = np.zeros(max(lengths), part.dtype)
        padded[: part.size] = part
        joined = np.concatenate([row[:n] for row, n in zip(self.all_gather(padded), lengths, strict=True)])
        return lambda: joined

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
