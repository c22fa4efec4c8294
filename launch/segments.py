"""Shared memory that an MPI library leaves behind when its processes are killed.

MPICH and Intel MPI keep a named segment for the whole job and remove it when MPI is finalized, so a job that
ends otherwise leaves some megabytes in memory until the machine is started anew.
"""

from __future__ import annotations

import os
import re
import stat
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
    """The segments of this user on this machine that an MPI library has made."""
    try:
        return {name for name in os.listdir(_FOLDER) if _NAME.fullmatch(name) and _age(name) is not None}
    except OSError:
        return set()


def remove_unused() -> None:
    """Removes those that no process uses, and that are old enough to be of jobs long begun.

    Should one be another job's, whose processes cannot be seen from here, that does no harm: once a
    segment is open, it stays until they end.
    """
    for name in _unused(present()):
        age = _age(name)
        if age is not None and age >= _YOUNG:
            with suppress(OSError):  # somebody else removed it
                (_FOLDER / name).unlink()


def remove_after(before: set[str], processes: Iterable[int]) -> None:
    """The same at the end of a job; waits until what the job itself has left is old enough.

    Args:
        before: what was there when the job began.
        processes: those of the job, which are about to end.
    """
    if present() - before:
        pids = list(processes)
        end = time.monotonic() + _PATIENCE
        while any(map(_memory_of, pids)) and time.monotonic() < end:
            time.sleep(0.01)
        ages = [age for name in _unused(present() - before) if (age := _age(name)) is not None]
        if ages:
            time.sleep(min(max(0.0, _YOUNG - min(ages)), _YOUNG))
    remove_unused()


def _unused(names: set[str]) -> set[str]:
    if not names:
        return names
    used = b"".join(_memory_of(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
    return {name for name in names if str(_FOLDER / name).encode() not in used}


def _age(name: str) -> float | None:
    """Seconds since a segment was made; None for anything but a file of this user's, of one name."""
    try:
        status = os.lstat(_FOLDER / name)
    except OSError:
        return None
    plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == os.geteuid()
    return time.time() - status.st_ctime if plain else None


def _memory_of(pid: int) -> bytes:
    """What a process has in its memory; empty when it is dead, or another user's."""
    try:
        return Path(f"/proc/{pid}/maps").read_bytes()
    except OSError:
        return b""
