"""Reads the ledger of a running job: who came when to each collective call, in memory that replicas share.

The memory is a file without a name that a replica keeps open. It is mapped for reading only, so a job does
not notice, and what is in it stays readable after its end. Its layout stands in its first bytes, as JSON; see
``distopt/collectives/ledger.py``.
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
#: What is read of each row: its call, last written, and 0 until then.
_FIELDS = ("call", "step", "arrival", "begun", *_PHASES, "met")


@dataclass(frozen=True)
class LedgerRow:
    """A replica's row of one call.

    Attributes:
        call: the call's number.
        step: optimizer steps that it has begun.
        arrival: when it came, in seconds of this machine's monotonic clock.
        begun: when it left the call before.
        met: when all had come; 0 before, and for replicas of other nodes.
        seconds: by phase, in the order of `job_record.PHASES`, since the start.
    """

    call: int
    step: int
    arrival: float
    begun: float
    met: float
    seconds: tuple[float, ...]


class LedgerView:
    """A job's ledger.

    Args:
        path: the file, as `find` gives it.

    Attributes:
        head: what it says of itself.
        replicas: their number.
        identity: of the memory: the same for all processes that have it.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no ledger that this version can read.
    """

    def __init__(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            self.identity = status.st_dev, status.st_ino
            self._memory = mmap.mmap(descriptor, status.st_size, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
        self.head = _head_in(self._memory[:_HEAD])
        if self.head.get("version") != 1:
            raise ValueError(f"{path} is a ledger of another version of distopt")
        self.replicas, self._ring = int(self.head["replicas"]), int(self.head["ring"])
        names, self._totals = list(self.head["row"]), list(self.head["total"])
        self._row, self._total = struct.Struct(f"<{len(names)}q"), struct.Struct(f"<{len(self._totals)}q")
        self._at = {name: names.index(name) for name in _FIELDS}
        self._latest = 0

    def row(self, call: int, replica: int) -> LedgerRow | None:
        """A replica's row of a call; None if it is not there, not yet or no more."""
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
        """The rows of all replicas; None if one is not there."""
        found = [self.row(call, replica) for replica in range(self.replicas)]
        known = [row for row in found if row is not None]
        return known if len(known) == self.replicas else None

    def latest(self, replica: int = 0) -> int:
        """The number of the replica's latest call; 0 before the first."""
        known = self._latest
        while self.row(known + 1, replica) is not None:
            known += 1
        if known == self._latest:  # nothing new, or the ring has gone round
            calls = (self._call_in(slot, replica) for slot in range(self._ring))
            known = max([known, *calls])
        self._latest = known
        return known

    def latest_of_all(self) -> int:
        """The number of the latest call to which all replicas have come."""
        # Nobody leaves a call before all have come, so they are one apart at most.
        latest = self.latest()
        return latest if self.rows(latest) is not None else max(0, latest - 1)

    def _call_in(self, slot: int, replica: int) -> int:
        offset = self.head["ring_at"] + (slot * self.replicas + replica) * self.head["row_bytes"]
        call: int = struct.unpack_from("<q", self._memory, offset + 8 * self._at["call"])[0]
        return call if call % self._ring == slot else 0

    def total(self, replica: int) -> dict[str, int]:
        """A replica's totals: calls that it was last to, and what that cost in ns, by phase."""
        values = self._total.unpack_from(
            self._memory, self.head["totals_at"] + replica * self.head["total_bytes"]
        )
        return dict(zip(self._totals, values, strict=True))


def find(pid: int) -> str | None:
    """The path of the ledger that a process has open, the newest if there are several; None if it has none.

    Raises:
        OSError: there is no such process, or it is not to be seen.
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
    """When the ledger of a file was made, in nanoseconds of the monotonic clock.

    Raises:
        ValueError: the file is no ledger, or is not written yet.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return int(_head_in(os.pread(descriptor, _HEAD, 0)).get("started_monotonic_ns", 0))
    finally:
        os.close(descriptor)


def _head_in(data: bytes) -> dict[str, Any]:
    """What a ledger that begins with these bytes says of itself.

    Raises:
        ValueError: it is no ledger.
    """
    if not data.startswith(_MAGIC):
        raise ValueError("not a ledger")
    head: dict[str, Any] = json.loads(data[len(_MAGIC) :].rstrip(b"\0"))
    return head


def holders() -> Iterator[tuple[int, str]]:
    """This user's processes that have a ledger open, each with its path."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            pid = int(entry.name)
            if entry.stat().st_uid == os.geteuid() and (path := find(pid)) is not None:
                yield pid, path
