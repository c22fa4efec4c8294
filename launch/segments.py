"""Removes shared memory that an MPI library leaves behind when its processes are killed.

MPICH and Intel MPI keep a named segment for the whole job and remove it when MPI is finalized. A job that
ends otherwise would leave some megabytes in memory until the machine is rebooted.
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
#: Seconds to wait for killed processes to be gone.
_PATIENCE = 1.0
#: Seconds for which a new segment may still wait for processes to open it.
_YOUNG = 1.0


def present() -> set[str]:
    """This user's segments on this machine that an MPI library has made."""
    try:
        return {name for name in os.listdir(_FOLDER) if _NAME.fullmatch(name) and _age(name) is not None}
    except OSError:
        return set()


def remove_unused() -> None:
    """Removes segments that no process uses, unless they are new.

    If one belongs to a job whose processes cannot be seen from here, no harm is done: an open segment lives
    until they end.
    """
    for name in _unused(present()):
        age = _age(name)
        if age is not None and age >= _YOUNG:
            with suppress(OSError):  # another process has removed it
                (_FOLDER / name).unlink()


def remove_after(before: set[str], processes: Iterable[int]) -> None:
    """The same at the end of a job, once the segments that it has left are old enough.

    Args:
        before: the segments that existed when the job began.
        processes: PIDs of the job, which is about to end.
    """
    if present() - before:
        pids = list(processes)
        end = time.monotonic() + _PATIENCE
        while any(map(_memory_map, pids)) and time.monotonic() < end:
            time.sleep(0.01)
        ages = [age for name in _unused(present() - before) if (age := _age(name)) is not None]
        if ages:
            time.sleep(min(max(0.0, _YOUNG - min(ages)), _YOUNG))
    remove_unused()


def _unused(names: set[str]) -> set[str]:
    if not names:
        return names
    used = b"".join(_memory_map(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
    return {name for name in names if str(_FOLDER / name).encode() not in used}


def _age(name: str) -> float | None:
    """Seconds since a segment was made; None unless it is a plain file of this user, with one name."""
    try:
        status = os.lstat(_FOLDER / name)
    except OSError:
        return None
    plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == os.geteuid()
    return time.time() - status.st_ctime if plain else None


def _memory_map(pid: int) -> bytes:
    """A process's memory map; empty if it has ended, or is another user's."""
    try:
        return Path(f"/proc/{pid}/maps").read_bytes()
    except OSError:
        return b""
