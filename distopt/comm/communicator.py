"""Communicator: how bytes move between the replicas of a job, and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from distopt.comm.memory import SharedBlock
from distopt.typing import Array

__all__ = ["HEADER_BYTES", "Code", "Communicator", "everyone_came"]

#: Every header has this length: it is one row of a table in shared memory.
HEADER_BYTES = 64

#: ``(counters, met, first, stop) -> next``: runs the parts from ``first`` on, before ``stop``. Before part k
#: but the first, each replica's counter has to be at ``met + k`` (see ``distopt.comm.spin``), and after it
#: the own one is raised. Returns the part that it cannot begin since the others take long, or ``stop``.
Code = Callable[["Array", int, int, int], int]


@cache
def everyone_came(size: int) -> Array:
    """Counters of ``size`` replicas for code that nobody has to be waited for in."""
    from distopt.comm.spin import STRIDE

    return np.full(size * STRIDE, np.iinfo(np.int64).max)


class Communicator(ABC):
    """The replicas of a job, or of one node of it, seen from one of them.

    All methods are collective: every replica calls them in the same order, which the headers of
    ``distopt.collectives.agreement`` hold it to. Arrays are contiguous; none of them is written to.
    """

    rank: int
    size: int
    #: The number of replicas in this process, and this one's number among them.
    local_size: int = 1
    local_index: int = 0

    @abstractmethod
    def barrier(self) -> None:
        """Returns when all replicas have come here."""

    def run(self, code: Code, parts: int) -> None:
        """Runs compiled code in parts; between two parts all replicas meet.

        Args:
            code: the code, called as :data:`Code` says.
            parts: how many there are, the same on all replicas.
        """
        for part in range(parts):
            if part > 0:
                self.barrier()
            code(everyone_came(self.size), 0, part, part + 1)

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

    def locally(self, deposit: Any, speak: Callable[[list[Any]], Any]) -> Any:
        """Runs ``speak`` once a process, on what its replicas brought; all of them get its result."""
        return speak([deposit])

    @property
    @abstractmethod
    def node(self) -> Communicator:
        """The replicas that share memory with this one; it has :meth:`shared_block`."""

    @property
    @abstractmethod
    def cross(self) -> Communicator:
        """The replicas of equal rank within their nodes, one a node."""

    @abstractmethod
    def shared_block(self, nbytes: int) -> SharedBlock | None:
        """Zero-filled memory that all replicas of this node see, or None where there is no room.

        All replicas get a block or none does.
        """

    @abstractmethod
    def note(self, place: str, call: int, step: int) -> None:
        """Leaves word of where this replica stands, for messages of others that wait for it.

        Args:
            place: the call and its source line.
            call: the number of the collective call.
            step: how many optimizer steps this replica has begun.
        """

    @abstractmethod
    def abort(self, code: int) -> None:
        """Ends the whole job at once with this exit code."""
