"""CollectiveCheck: the header with which every collective call starts.

A header is a 64-byte message with the call's number, its kind, a fingerprint of its arguments, and flags. All
replicas exchange headers and compare them, so all of them raise the same error if their calls differ. On a
node, a header is a row of a table in shared memory; its exchange is also the barrier that the call needs.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from time import perf_counter_ns

import numpy as np

from distopt.collectives.ledger import Ledger, new_state
from distopt.collectives.ledger_report import recently_last
from distopt.comm import HEADER_BYTES, World
from distopt.comm.forks import forks
from distopt.errors import ReplicaFailed, ReplicaMismatch
from distopt.tracebacks import format_error, is_between, is_internal, located

__all__ = ["CollectiveCheck", "digest", "user_call"]

#: Call number, hash of the kind, fingerprint, status, flags, and the two fields below.
_FORMAT = struct.Struct("<qQQqqqq8x")
#: The bytes that must be equal: all before the flags. The index of two fields: whether the replica has
#: messages to send ahead (see ``check``), and whether it makes a call within its node (see ``within_node``).
_SAME, _AHEAD, _OF_NODE = slice(0, 32), 5, 6
#: The status of a replica: in the call, with an error in its arguments, at the end of its program.
_OK, _ERROR, _FINISHED = 0, 1, 2
#: The most entries of each cache: a program may make any number of optimizers with new names.
_KEPT = 1000
#: Longer descriptions, in characters, are cut to the parts that differ; parts do not split brackets.
_LONG, _PARTS = 400, re.compile(r"[,;] (?![^\[(]*[\])])")


def digest(text: str) -> int:
    """A 64-bit hash of ``text``, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def user_call() -> tuple[str, str]:
    """The user's call of distopt that is on the stack.

    Returns:
        the name of the public function that the program called, empty if it is a private one; and the line,
        ``"train.py:12"`` or ``"cell In[3], line 12"``.
    """
    frame, function = sys._getframe(1), ""
    while frame.f_back is not None:
        code = frame.f_code
        if is_internal(code.co_filename):
            function = code.co_name
        elif not is_between(code.co_filename):
            break
        frame = frame.f_back
    return located(function, frame.f_code.co_filename, frame.f_lineno)


class CollectiveCheck:
    """Exchanges and compares the headers of one replica.

    Args:
        world: the communicators of the job, or of one node.
        recall: cancels the messages that this or other replicas have sent ahead of a header; collective.
        numbers: the replica numbers for error messages; by default the ranks in ``world``.
        job: the CollectiveCheck of the job, if ``world`` is one node's; else None.

    Attributes:
        steps: how many optimizer steps this replica has begun; for messages.
        ledger: the arrival times of all replicas; None before the first call. With a single replica, None
            before its first step.
        ended: a memoryview of one int64: the end of each collective call is written to it, in nanoseconds.
        headers: how many headers this replica has exchanged, including those within its node.
    """

    def __init__(
        self,
        world: World,
        recall: Callable[[], None],
        numbers: Sequence[int] | None = None,
        job: CollectiveCheck | None = None,
    ) -> None:
        self._numbers, self._job = range(world.comm.size) if numbers is None else numbers, job
        self._of = f" of {world.comm.size}" if self._numbers == range(world.comm.size) else ""
        self._comm, self._node, self._status, self._recall = world.comm, world.node, world.status, recall
        self._spans = world.spans
        self._world, self._pid, self.steps = world, os.getpid(), 0
        self._timing, self.ended = new_state()
        self.ledger: Ledger | None = None
        self._calls = self._node_calls = self.headers = 0
        self._kinds: dict[str, int] = {}
        self._places: dict[tuple[str, tuple[str, str]], str] = {}
        self._finished = False

    def check(
        self,
        kind: str,
        fingerprint: int,
        describe: Callable[[], str],
        error: Exception | None = None,
        flags: int = 0,
        ahead: Callable[[], None] | None = None,
    ) -> list[int]:
        """Checks that all replicas are in the same call, with equal fingerprints; collective.

        Args:
            kind: the call's name, e.g. ``"all_reduce"``.
            fingerprint: a hash of everything that must be equal: names, shapes, dtypes, ...
            describe: returns a description of the call; called only if replicas disagree.
            error: an error in this replica's arguments; then all replicas raise.
            flags: a number that is passed to all replicas; it may differ.
            ahead: sends first messages of the call ahead: as soon as this node's replicas agree, while the
                headers travel between nodes. They are cancelled unless all replicas of the job agree and all
                pass ``ahead``.

        Returns:
            the flags of all replicas, by number.

        Raises:
            ReplicaMismatch: replicas are in different calls.
            ReplicaFailed: another replica's arguments were wrong.
            Exception: ``error`` itself, on the replica that gave it.
        """
        self._calls += 1
        self.headers += 1
        if self._comm.size == 1:
            if error is not None:
                raise error
            return [flags]
        if self._job is not None:
            self._job.headers += 1
            self._job._opened()
        header = self._header(kind, self._calls, fingerprint, error, flags, bool(ahead))
        begin = perf_counter_ns()
        rows = self._meet(header, ahead)
        if self._spans.on:
            self._spans.add(("X", "header", begin, perf_counter_ns(), {"call": kind}))
        if error is None and rows.count(header) == len(rows):
            return [flags] * len(rows)
        others = self._job is not None and rows.count(header) < len(rows)
        if self._job is not None and others and not all(_FORMAT.unpack(row)[_OF_NODE] for row in rows):
            # Another replica of the node is in a call of the job: join that exchange, so that all of the job
            # raise the error.
            self._job._calls += 1
            self._job._agreed(self._job._exchange(header), flags, describe, error)
        return self._agreed(rows, flags, describe, error)

    def step_alone(self) -> None:
        """Begins a step of a single replica: exchanges no header, but records its times in the ledger."""
        if self._job is not None or (forks and os.getpid() != self._pid):
            return  # the ledger belongs to the job, or to the process that forked this one
        ledger = self.ledger or self._opened()
        ledger.arrive(ledger.address, self.steps, self.steps)
        ledger.settle(ledger.address, self.steps, 0, 0)

    def check_on_node(
        self, kind: str, fingerprint: int, describe: Callable[[], str], error: Exception | None = None
    ) -> None:
        """Like :meth:`check`, but only the replicas of this node exchange headers.

        If they disagree, all replicas of the job raise; those of other nodes do so at their next call.

        Raises:
            As :meth:`check`.
        """
        self._node_calls += 1
        self.headers += 1
        if self._node.size == 1:
            if error is not None:
                raise error
            return
        self._opened()
        header = self._header(kind, self._node_calls, fingerprint, error, 0, False)
        rows = self._node.exchange(header)
        if error is not None or rows.count(header) < len(rows):
            if self._node.size < self._comm.size:
                self._calls += 1  # the other nodes take part in their next call of the job
                rows = self._exchange(header)
            self._agreed(rows, 0, describe, error)

    def _header(
        self, kind: str, number: int, fingerprint: int, error: Exception | None, flags: int, ahead: bool
    ) -> bytes:
        kind_hash = self._kinds.get(kind)
        if kind_hash is None:
            if len(self._kinds) == _KEPT:
                self._kinds.clear()
            kind_hash = self._kinds[kind] = digest(kind)
        self._status.write(self._place(kind, user_call()), self._calls, self.steps)
        status = _OK if error is None else _ERROR
        return _FORMAT.pack(number, kind_hash, fingerprint, status, flags, ahead, self._job is not None)

    def _agreed(
        self, rows: list[bytes], flags: int, describe: Callable[[], str], error: Exception | None
    ) -> list[int]:
        """The flags of all replicas if their headers agree; else raises."""
        if error is None and rows.count(rows[0]) == len(rows):
            return [flags] * len(rows)
        if error is None and _same(rows):
            return [_FORMAT.unpack(row)[4] for row in rows]
        self._disagree(rows, describe, error)
        raise AssertionError("unreachable")

    def _meet(self, own: bytes, ahead: Callable[[], None] | None = None) -> list[bytes]:
        """Exchanges headers, and records this replica's arrival; ``ahead`` as in :meth:`check`."""
        if self._job is not None:
            return self._meet_apart(own)
        ledger = self.ledger or self._opened()
        ledger.arrive(ledger.address, self._calls, self.steps)
        together = True
        if 1 < self._node.size < self._comm.size:
            together = _same(self._node.exchange(own))
        return self._exchange(own, ahead if together else None)

    def _meet_apart(self, own: bytes) -> list[bytes]:
        """Exchanges headers in a call within a node; the job's ledger records the wait."""
        job = self._job
        if job is None or job.ledger is None or self._comm.size == 1:
            return self._comm.exchange(own)
        with job.ledger.node_call():
            return self._comm.exchange(own)

    def _opened(self) -> Ledger:
        """The ledger. All replicas of the job create it together, in their first call."""
        if self.ledger is None:
            self.ledger = Ledger(self._world, self._timing)
            self._spans.ahead = partial(self.ledger.clock_ahead, 0)
            if self._comm.size > 1:
                self._status.add_remark(partial(recently_last, self.ledger))
        return self.ledger

    def _exchange(self, own: bytes, ahead: Callable[[], None] | None = None) -> list[bytes]:
        """Exchanges headers over the job. With several nodes, a row of the ledger travels with each."""
        ledger = self.ledger or self._opened()
        sent = own + ledger.stamp(self._calls) if ledger.stamped else own
        if ahead is not None:
            arrive = self._comm.begin_exchange(sent)
            ahead()
            found = arrive()
        else:
            found = self._comm.exchange(sent)
        rows = found
        if ledger.stamped:
            joined = np.frombuffer(b"".join(found), np.uint8)
            ledger.settle(ledger.address, self._calls, joined.ctypes.data + HEADER_BYTES, len(sent))
            rows = [row[:HEADER_BYTES] for row in found]
        else:
            ledger.settle(ledger.address, self._calls, 0, 0)
        if rows.count(own) < len(rows):
            begun = [_FORMAT.unpack(row)[_AHEAD] for row in rows]
            if any(begun) and not (all(begun) and _same(rows)):
                self._recall()
        return rows

    def _place(self, kind: str, call: tuple[str, str]) -> str:
        """A description of the call and its line, cached: the status board gets the same object each time."""
        place = self._places.get((kind, call))
        if place is None:
            if len(self._places) == _KEPT:
                self._places.clear()
            place = self._places[kind, call] = _located(kind, call)
        return place

    def _disagree(self, rows: list[bytes], describe: Callable[[], str], error: Exception | None) -> None:
        """Exchanges descriptions of the replicas' calls, then raises; collective."""
        text, call = describe(), ("", "") if self._finished else user_call()
        if error is not None:
            text, call = f"{_located(text, call)}, with an error:\n{format_error(error).rstrip()}", ("", "")
        gathered = self._comm.gather_bytes("\0".join((*call, text)).encode())
        functions, places, descriptions = zip(*(d.decode().split("\0", 2) for d in gathered), strict=True)
        statuses = [_FORMAT.unpack(row)[3] for row in rows]
        if error is not None:
            raise error
        failed = [r for r, status in enumerate(statuses) if status == _ERROR]
        if failed:
            raise ReplicaFailed(
                f"nothing was applied, because replica {self._numbers[failed[0]]}{self._of} failed: "
                f"{descriptions[failed[0]]}"
            )
        texts = map(_located, _without_common_parts(descriptions), zip(functions, places, strict=True))
        raise ReplicaMismatch(_difference(list(texts), self._numbers))

    def finish(self, lock: AbstractContextManager[None] | None = None) -> None:
        """Announces the end of this replica's program, so that replicas in another call raise an error.

        Does nothing in a child process that the replica forked.

        Args:
            lock: held during this last call, to wait for other threads of the replica.

        Raises:
            ReplicaMismatch: other replicas are still in a collective call.
        """
        if self._comm.size == 1 or self._finished or os.getpid() != self._pid:
            return
        self._finished = True
        with lock or nullcontext():
            self._calls += 1
            self._status.write("the end of its program", self._calls, self.steps)
            rows = self._meet(_FORMAT.pack(self._calls, digest("finish"), 0, _FINISHED, 0, 0, 0))
            if any(_FORMAT.unpack(row)[3] != _FINISHED for row in rows):
                self._disagree(rows, lambda: "the end of its program", None)

    @property
    def calls(self) -> int:
        """How many collective calls this replica has made."""
        return self._calls


def _same(rows: Sequence[bytes]) -> bool:
    """Whether headers are equal, except for flags."""
    return all(row[_SAME] == rows[0][_SAME] for row in rows)


def _located(text: str, call: tuple[str, str]) -> str:
    """Describes a call with its line, and with the user's function if that has another name."""
    function, place = call
    if not place:
        return text
    return f"{text} at {place}" if function in text else f"{function}() at {place}, in {text}"


def _without_common_parts(descriptions: Sequence[str]) -> Sequence[str]:
    """Shortens long descriptions: replaces the parts that all have in common by ``...``."""
    parts = [_PARTS.split(text) for text in descriptions]
    common = set(parts[0]).intersection(*parts[1:])
    short = [_elided(words, common) for words in parts]
    if not common or max(map(len, descriptions)) <= _LONG or len(set(short)) < len(set(descriptions)):
        return descriptions
    return short


def _elided(parts: Sequence[str], common: set[str]) -> str:
    """The parts as one text, with ``...`` for those in ``common``, except for the first."""
    shown = list(parts[:1])
    for part in parts[1:]:
        if part not in common:
            shown.append(part)
        elif shown[-1] != "...":
            shown.append("...")
    return ", ".join(shown)


def _difference(descriptions: list[str], numbers: Sequence[int]) -> str:
    """The error message, with the replicas grouped by the call that they are in."""
    groups: dict[str, list[int]] = {}
    for replica, text in zip(numbers, descriptions, strict=True):
        groups.setdefault(text, []).append(replica)
    lines = ["replicas are in different calls; nothing was applied."]
    for text, replicas in groups.items():
        plural = "s" if len(replicas) > 1 else ""
        lines.append(f"  replica{plural} {', '.join(map(str, replicas))}: {text}")
    if len(groups) == 1:
        lines.append(
            "  (the same call, but the replicas made different numbers of calls or of steps before it, or "
            "it uses different variables for the first time)"
        )
    lines.append("All replicas must make the same calls, in the same order, on the same variables.")
    return "\n".join(lines)
