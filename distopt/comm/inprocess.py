"""Replicas as threads of one process; with an outer communicator, of several processes."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distopt.comm.baton import Baton
from distopt.comm.communicator import HEADER_BYTES, Communicator
from distopt.comm.memory import SharedBlock, thread_block
from distopt.comm.solo import SoloCommunicator
from distopt.errors import ReplicaFailed
from distopt.typing import Array

__all__ = ["InProcessCommunicator"]


class InProcessCommunicator(Communicator):
    """One of ``baton.size`` replicas in this process.

    What one replica brings is copied before the baton goes on, so that it may change its arrays as
    soon as its call returns. Thread 0 speaks for all of them to other processes.

    Args:
        baton: what the threads of this process hand on.
        index: the number of this thread.
        outer: how the processes talk, each holding ``baton.size`` replicas; alone by default.
    """

    def __init__(self, baton: Baton, index: int, outer: Communicator | None = None) -> None:
        self._baton = baton
        self._index = index
        self._outer = outer or SoloCommunicator()
        self.local_size, self.local_index = baton.size, index
        self.rank = self._outer.rank * baton.size + index
        self.size = self._outer.size * baton.size

    def _together(self, deposit: Any, speak: Callable[[list[Any]], Any]) -> Any:
        """Meets the other threads; thread 0 turns all deposits into one result for all."""
        deposits = self._baton.meet(self._index, deposit)
        # All threads wake in turn, thread 0 first: it speaks, then the others get its word.
        if self._index == 0:
            try:
                deposits.append((speak(deposits[: self._baton.size]), ""))
            except Exception:
                deposits.append((None, traceback.format_exc()))
                raise
        if len(deposits) == self._baton.size:  # thread 0 was ended while it spoke
            self._baton.meet(self._index, None)
        result, failure = deposits[self._baton.size]
        if failure:
            raise ReplicaFailed(
                f"replica {self.rank - self._index} raised, for all of its process:\n{failure}"
            )
        return result

    def locally(self, deposit: Any, speak: Callable[[list[Any]], Any]) -> Any:
        """See Communicator."""
        return self._together(deposit, speak)

    @property
    def outer(self) -> Communicator:
        """How the processes talk."""
        return self._outer

    def barrier(self) -> None:
        """See Communicator."""
        self._together(None, lambda _: self._outer.barrier())

    def exchange(self, header: bytes) -> list[bytes]:
        """See Communicator."""

        def speak(headers: list[bytes]) -> list[bytes]:
            if self._outer.size == 1:
                return headers
            rows = self._outer.all_gather(np.frombuffer(b"".join(headers), np.uint8))
            flat = b"".join(row.tobytes() for row in rows)
            return [flat[i : i + HEADER_BYTES] for i in range(0, len(flat), HEADER_BYTES)]

        result: list[bytes] = self._together(header, speak)
        return result

    def all_gather(self, array: Array) -> list[Array]:
        """See Communicator."""

        def speak(arrays: list[Array]) -> list[Array]:
            if self._outer.size == 1:
                return arrays
            return [row for block in self._outer.all_gather(np.stack(arrays)) for row in block]

        result: list[Array] = self._together(np.array(array), speak)
        return result

    def all_to_all(self, parts: Sequence[Array]) -> list[Array]:
        """See Communicator."""
        local = self._baton.size

        def speak(sent: list[list[Array]]) -> list[list[Array]]:
            if self._outer.size == 1:
                return [[row[d] for row in sent] for d in range(local)]
            packed = [
                np.concatenate([row[p * local + d] for row in sent for d in range(local)])
                for p in range(self._outer.size)
            ]
            lengths = [sent[0][self._outer.rank * local + d].size for d in range(local)]
            cuts = np.cumsum(lengths * local)[:-1]
            got = [piece for block in self._outer.all_to_all(packed) for piece in np.split(block, cuts)]
            return [got[d::local] for d in range(local)]

        result: list[list[Array]] = self._together([np.array(p) for p in parts], speak)
        return result[self._index]

    def broadcast(self, array: Array, root: int = 0) -> Array:
        """See Communicator."""
        process, index = divmod(root, self._baton.size)

        def speak(arrays: list[Array]) -> Array:
            return self._outer.broadcast(arrays[index], process)

        result: Array = self._together(np.array(array), speak)
        return result

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """See Communicator."""

        def speak(texts: list[bytes]) -> list[bytes]:
            if self._outer.size == 1:
                return texts
            lengths = np.array([len(t) for t in texts], np.int64)
            all_lengths = np.concatenate(self._outer.all_gather(lengths))
            flat = b"".join(self._outer.gather_bytes(b"".join(texts)))
            ends = np.cumsum(all_lengths)
            return [flat[end - n : end] for end, n in zip(ends, all_lengths, strict=True)]

        result: list[bytes] = self._together(data, speak)
        return result

    @property
    def node(self) -> Communicator:
        """The threads of this process, if there is but one; else itself over the processes' node."""
        if self._outer.size == self._outer.node.size:
            return self
        return InProcessCommunicator(self._baton, self._index, self._outer.node)

    @property
    def cross(self) -> Communicator:
        """The replicas of equal rank in the other nodes."""
        if self._outer.size == self._outer.node.size:
            return SoloCommunicator()
        return InProcessCross(self._baton, self._index, self._outer)

    def shared_block(self, nbytes: int) -> SharedBlock | None:
        """See Communicator."""

        def speak(_: list[Any]) -> SharedBlock | None:
            return thread_block(nbytes) if self._outer.size == 1 else self._outer.shared_block(nbytes)

        result: SharedBlock | None = self._together(None, speak)
        return result

    def note(self, place: str, call: int, step: int) -> None:
        """See Communicator."""
        self._baton.note(self._index, f"{place} (call {call})")
        if self._index == self._baton.size - 1:  # the last one in turn: all of this process have come so far
            self._outer.note(place, call, step)

    def abort(self, code: int) -> None:
        """See Communicator."""
        self._outer.abort(code)


class InProcessCross(Communicator):
    """The replicas of equal rank within their nodes, for nodes of several processes of several threads.

    Thread i of process p talks to thread i of the processes of equal local rank; the threads take
    turns at the processes' own cross communicator, in their order.
    """

    def __init__(self, baton: Baton, index: int, outer: Communicator) -> None:
        self._baton, self._index, self._cross = baton, index, outer.cross
        self.rank, self.size = self._cross.rank, self._cross.size

    def _in_turn(self, deposit: Any, speak: Callable[[list[Any]], list[Any]]) -> Any:
        deposits = self._baton.meet(self._index, deposit)
        if self._index == 0:
            deposits.append(speak(deposits[: self._baton.size]))
        return deposits[self._baton.size][self._index]

    def barrier(self) -> None:
        """See Communicator."""
        self._in_turn(None, lambda d: [self._cross.barrier()] * len(d))

    def exchange(self, header: bytes) -> list[bytes]:
        """See Communicator."""
        result: list[bytes] = self._in_turn(header, lambda d: [self._cross.exchange(h) for h in d])
        return result

    def all_gather(self, array: Array) -> list[Array]:
        """See Communicator."""
        result: list[Array] = self._in_turn(array, lambda d: [self._cross.all_gather(a) for a in d])
        return result

    def all_to_all(self, parts: Sequence[Array]) -> list[Array]:
        """See Communicator."""
        result: list[Array] = self._in_turn(list(parts), lambda d: [self._cross.all_to_all(p) for p in d])
        return result

    def broadcast(self, array: Array, root: int = 0) -> Array:
        """See Communicator."""
        result: Array = self._in_turn(array, lambda d: [self._cross.broadcast(a, root) for a in d])
        return result

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """See Communicator."""
        result: list[bytes] = self._in_turn(data, lambda d: [self._cross.gather_bytes(b) for b in d])
        return result

    @property
    def node(self) -> Communicator:
        """Alone: there is one replica a node in here."""
        return SoloCommunicator()

    @property
    def cross(self) -> Communicator:
        """Itself."""
        return self

    def shared_block(self, nbytes: int) -> SharedBlock | None:
        """Replicas of different nodes share no memory."""
        raise RuntimeError("replicas of different nodes share no memory")

    def note(self, place: str, call: int, step: int) -> None:
        """See Communicator."""
        self._baton.note(self._index, f"{place} (call {call})")

    def abort(self, code: int) -> None:
        """See Communicator."""
        self._cross.abort(code)
