"""Reads the ledger of a running job, a table in shared memory with the arrival times of replicas at calls.

The shared memory is an unnamed file (memfd) that the replicas keep open. It is mapped read-only, so that the
job is not affected, and it stays readable after the job's end. It starts with a JSON header that describes
its layout. See ``distopt/collectives/ledger.py``.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MAGIC, _HEAD = b"distopt-ledger\0\0", 4096
_LINK = "/memfd:distopt"
_PHASES = ("own_code", "input", "saving", "waiting", "in_call", "wire")
#: The fields of a row that are read. ``call`` is written last, and is 0 until then.
_FIELDS = ("call", "step", "arrival", "begun", *_PHASES, "met")


@dataclass(frozen=True)
class LedgerRow:
    """A replica's row of one call.

    Attributes:
        call: the number of the call.
        step: the number of optimizer steps that the replica has started.
        arrival: when it arrived, in seconds of this machine's monotonic clock.
        begun: when it left the previous call.
        met: when the last replica had arrived; 0 before, and for replicas of other nodes.
        seconds: its time in each phase since the start, in the order of `job_record.PHASES`.
    """

    call: int
    step: int
    arrival: float
    begun: float
    met: float
    seconds: tuple[float, ...]


class LedgerView:
    """The ledger of a job.

    Args:
        path: the file, a result of `find`.

    Attributes:
        head: the header.
        replicas: the number of replicas.
        identity: device and inode of the memory, which are the same in all processes that share it.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is not a ledger, or that of another version.
    """

    def __init__(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            self.identity = status.st_dev, status.st_ino
            self._memory = mmap.mmap(descriptor, status.st_size, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
        self.head = _head_in(path, self._memory[:_HEAD])
        if self.head.get("version") != 1:
            raise ValueError(f"{path} is a ledger of another version of distopt")
        self.replicas, self._ring = int(self.head["replicas"]), int(self.head["ring"])
        names, self._totals = list(self.head["row"]), list(self.head["total"])
        self._row, self._total = struct.Struct(f"<{len(names)}q"), struct.Struct(f"<{len(self._totals)}q")
        self._at = {name: names.index(name) for name in _FIELDS}
        self._latest = 0

    def row(self, call: int, replica: int) -> LedgerRow | None:
        """A replica's row of a call; None if it is not written yet, or already overwritten."""
        offset = (
            self.head["ring_at"] + ((call % self._ring) * self.replicas + replica) * self.head["row_bytes"]
        )
        values = self._row.unpack_from(self._memory, offset)
        again = self._row.unpack_from(self._memory, offset)[self._at["call"]]
        if call <= 0 or values[self._at["call"]] != call or again != call:
            return None
        known = {name: values[at] for name, at in self._at.items()}
        seconds = tuple(known[phase] / 1e9 for phase in _PHASES)
        arrival, begun, met = known["arrival"] / 1e9, known["begun"] / 1e9, known["met"] / 1e9
        return LedgerRow(call, known["step"], arrival, begun, met, seconds)

    def rows(self, call: int) -> list[LedgerRow] | None:
        """The rows of all replicas for a call; None if one is missing."""
        found = [self.row(call, replica) for replica in range(self.replicas)]
        known = [row for row in found if row is not None]
        return known if len(known) == self.replicas else None

    def latest(self, replica: int = 0) -> int:
        """The number of the replica's latest call; 0 before the first."""
        known = self._latest
        while self.row(known + 1, replica) is not None:
            known += 1
        if known == self._latest:  # nothing new, or the rows of the ring have been overwritten since
            calls = (self._call_in(slot, replica) for slot in range(self._ring))
            known = max([known, *calls])
        self._latest = known
        return known

    def latest_of_all(self) -> int:
        """The number of the latest call at which all replicas have arrived."""
        # No replica leaves a call before all have arrived, so their latest calls differ by at most one.
        latest = self.latest()
        return latest if self.rows(latest) is not None else max(0, latest - 1)

    def _call_in(self, slot: int, replica: int) -> int:
        offset = self.head["ring_at"] + (slot * self.replicas + replica) * self.head["row_bytes"]
        call: int = struct.unpack_from("<q", self._memory, offset + 8 * self._at["call"])[0]
        return call if call % self._ring == slot else 0

    def total(self, replica: int) -> dict[str, int]:
        """A replica's totals by name: calls at which it arrived last, and the wait that it caused, in ns."""
        values = self._total.unpack_from(
            self._memory, self.head["totals_at"] + replica * self.head["total_bytes"]
        )
        return dict(zip(self._totals, values, strict=True))


def find(pid: int) -> str | None:
    """The path of the newest ledger that a process has open; None if it has none.

    Raises:
        OSError: there is no such process, or it is another user's.
    """
    folder = f"/proc/{pid}/fd"
    found: dict[int, str] = {}
    for name in os.listdir(folder):
        with suppress(OSError, ValueError):
            path = f"{folder}/{name}"
            if os.readlink(path).startswith(_LINK):
                found[_started(path)] = path
    return found[max(found)] if found else None


def _started(path: str) -> int:
    """When the ledger in a file was created, in nanoseconds of the monotonic clock.

    Raises:
        ValueError: the file is not a ledger, or has not been written yet.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return int(_head_in(path, os.pread(descriptor, _HEAD, 0)).get("started_monotonic_ns", 0))
    finally:
        os.close(descriptor)


def _head_in(path: str, data: bytes) -> dict[str, Any]:
    """The header of the ledger at ``path``, which starts with ``data``.

    Raises:
        ValueError: it is not a ledger.
    """
    if not data.startswith(_MAGIC):
        raise ValueError(f"{path} is not a ledger")
    head: dict[str, Any] = json.loads(data[len(_MAGIC) :].rstrip(b"\0"))
    return head


def holders() -> Iterator[tuple[int, str]]:
    """Yields the ID of each process of this user that has a ledger open, with the ledger's path."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            pid = int(entry.name)
            if entry.stat().st_uid == os.geteuid() and (path := find(pid)) is not None:
                yield pid, path
