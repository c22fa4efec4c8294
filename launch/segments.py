"""Shared memory that an MPI library leaves behind when its processes are killed.

MPICH and Intel MPI keep a named segment for the whole job and remove it when MPI is finalized, so a job that
ends otherwise leaves some megabytes in memory until the machine is started anew.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_FOLDER = Path("/dev/shm")
_NAME = re.compile(r"(mpich_shm|Intel_MPI)_\w+")
#: Seconds for processes that were killed to be gone.
_PATIENCE = 1.0
#: Until so many seconds after it was made, a segment may wait for processes that are to open it.
_YOUNG = 1.0


def present() -> set[str]:
    """The segments on this machine that an MPI library has made."""
    try:
        return {name for name in os.listdir(_FOLDER) if _NAME.fullmatch(name)}
    except OSError:
        return set()


def remove_unused(before: set[str], processes: Iterable[int]) -> None:
    """Removes those of this user that came after ``before`` and that no process uses.

    Should one be another job's, whose processes cannot be seen from here, that does no harm: once a
    segment is open, it stays until they end.

    Args:
        before: what was there when the job began.
        processes: those of the job, which are about to end.
    """
    if not present() - before:
        return
    end = time.monotonic() + _PATIENCE
    while any(map(_memory_of, processes)) and time.monotonic() < end:
        time.sleep(0.01)
    for name in present() - before:
        path = _FOLDER / name
        with suppress(OSError):  # somebody else removed it
            status = path.stat()
            if status.st_uid != os.geteuid() or _used(str(path)):
                continue
            time.sleep(min(max(0.0, status.st_ctime + _YOUNG - time.time()), _YOUNG))
            if not _used(str(path)):
                path.unlink()


def _used(path: str) -> bool:
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return any(path.encode() in _memory_of(pid) for pid in pids)


def _memory_of(pid: int) -> bytes:
    """What a process has in its memory; empty when it is dead, or another user's."""
    try:
        return Path(f"/proc/{pid}/maps").read_bytes()
    except OSError:
        return b""
