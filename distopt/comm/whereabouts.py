"""Where all replicas of a job stand, for one that has been waiting for long.

On its own node a process reads the others' notes in shared memory, whatever they are doing. Other
nodes are asked with a message, once a wait has become long; whoever waits there answers for all of
its node. A node where nobody waits does not answer, and nothing is sent while nobody waits for long.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from typing import Any

from distopt.comm.notes import Note, Notes

__all__ = ["Whereabouts"]

_QUESTION, _ANSWER = 1, 2
#: One process's note in a message: number, call, step, seconds waited (-1: not, -2: stopped), place.
_FORMAT = struct.Struct("<qqqd232s")
#: How long to wait for answers, and between two looks for messages: whoever waits looks as often.
_ANSWER_SECONDS, _LOOK_SECONDS = 1.0, 0.01


class Whereabouts:
    """The notes of a job's processes, as one of them knows them.

    Args:
        mpi: the module ``mpi4py.MPI``.
        comm: an mpi4py communicator of the job that nothing else uses; None if all see each other's notes.
        rank: this process.
        notes: the notes of the processes that share memory with this one.
        members: the ranks of those processes, by row.
        size: the number of processes in the job.
        replicas: the number of replicas in each process.
    """

    def __init__(
        self,
        mpi: Any,
        comm: Any,
        rank: int,
        notes: Notes,
        members: Sequence[int],
        size: int,
        replicas: int = 1,
    ) -> None:
        self._mpi, self._comm = mpi, comm
        self._rank, self._notes, self._members, self._size = rank, notes, members, size
        self._replicas = replicas
        self._elsewhere = frozenset(range(size)) - frozenset(members) if comm is not None else frozenset()
        self._far = sorted(self._elsewhere)
        self._heard: dict[int, Note] = {}
        self._sending: list[Any] = []
        self._looked = 0.0
        self._now = self._before = Note("", 0, 0, None)

    def note(self, place: str, call: int, step: int) -> None:
        """Leaves word of where this process is."""
        self._notes.write(place, call, step)
        # Of a node that stays silent this much is known: it has made the call before.
        self._before, self._now = self._now, Note(place, call, step, None)

    # -- what a wait tells
    def wait(self) -> None:
        """See Company."""
        self._notes.wait()

    def go_on(self) -> None:
        """See Company."""
        self._notes.go_on()

    def attend(self) -> None:
        """See Company."""
        now = time.monotonic()
        if self._far and now - self._looked > _LOOK_SECONDS:
            self._looked = now
            self._read_messages()

    def report(self, waited: float) -> str:
        """See Company."""
        known = self._ask()
        own = known[self._rank].waited or waited
        if any(note.waited is not None and note.waited > own for note in known.values()):
            return ""
        return self._text(own, known)

    def last_report(self, waited: float) -> str:
        """See Company."""
        return self._text(waited, self._ask())

    def _text(self, waited: float, known: dict[int, Note]) -> str:
        """A line for each process, below one that names those who are waited for."""
        late = [rank for rank in range(self._size) if rank not in known or known[rank].waited is None]
        whom = f"for {self._names(late)}" if late else "all for each other"
        lines = [f"distopt: waiting for {waited:.0f} s, {whom}"]
        for rank in range(self._size):
            lines.append(f"  {self._names([rank])}: {self._line(rank, known.get(rank))}")
        return "\n".join(lines)

    def _line(self, rank: int, note: Note | None) -> str:
        if rank == self._rank:
            return f"in {note} (this one)"
        if note is None:
            return self._silent()
        if note.stopped:
            return f"is stopped (by SIGSTOP, or a debugger); last seen in {note}"
        if note.waited is None:
            return f"has not come; last seen in {note}"
        return f"waits for {note.waited:.0f} s in {note}"

    def _silent(self) -> str:
        common = f"the last that all made: {self._before}" if self._before.place else "no word of it"
        return f"has not come; its node gives no answer, as nobody waits there; {common}"

    def _names(self, ranks: Sequence[int]) -> str:
        """``replica 3``, ``replicas 0, 2``: processes by the numbers of their replicas."""
        each = self._replicas
        parts = [str(r) if each == 1 else f"{r * each}-{(r + 1) * each - 1}" for r in ranks]
        return f"replica{'s' if len(ranks) * each > 1 else ''} {', '.join(parts)}"

    # -- other nodes
    def _ask(self) -> dict[int, Note]:
        """What is known now, by rank; processes of which there is no word are left out."""
        self._heard.clear()
        for rank in self._far:
            self._sending.append(self._comm.Isend(b"", rank, _QUESTION))
        end = time.monotonic() + _ANSWER_SECONDS
        while len(self._heard) < len(self._far) and time.monotonic() < end:
            self._read_messages()
            time.sleep(0.001)
        return {**dict(zip(self._members, self._notes.read(), strict=True)), **self._heard}

    def _read_messages(self) -> None:
        status = self._mpi.Status()
        while self._comm.Iprobe(self._mpi.ANY_SOURCE, self._mpi.ANY_TAG, status):
            data = bytearray(_FORMAT.size)
            length = status.Get_count(self._mpi.BYTE)
            self._comm.Recv(data, status.source, status.tag)  # an error if it is longer
            if status.tag == _ANSWER and length == len(data):
                rank, call, step, waited, place = _FORMAT.unpack(data)
                text = place.rstrip(b"\0").decode(errors="replace")
                if rank in self._elsewhere:
                    self._heard[rank] = Note(text, call, step, waited if waited >= 0 else None, waited == -2)
            elif status.tag == _QUESTION:
                self._answer(status.source)
        self._sending = [request for request in self._sending if not request.Test()]

    def _answer(self, rank: int) -> None:
        """One message a process of this node, from the first of those that wait here."""
        notes = self._notes.read()
        waiting = [row for row, note in enumerate(notes) if note.waited is not None]
        if waiting and waiting[0] != self._notes.row:
            return
        for member, note in zip(self._members, notes, strict=True):
            waited = (-2.0 if note.stopped else -1.0) if note.waited is None else note.waited
            data = _FORMAT.pack(member, note.call, note.step, waited, note.place.encode()[:232])
            self._sending.append(self._comm.Isend(data, rank, _ANSWER))
