"""Removes shared-memory segments that an MPI library leaves behind when its processes are killed.

MPICH and Intel MPI keep a named segment during the whole job, and remove it when MPI is finalized. A job that
ends without this would occupy some megabytes of memory until the machine is rebooted.
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
#: Seconds to wait for the end of killed processes.
_PATIENCE = 1.0
#: Newer segments are kept, because processes may be about to open them.
_YOUNG = 1.0


def present() -> set[str]:
    """The names of this user's segments of MPI libraries on this machine."""
    try:
        return {name for name in os.listdir(_FOLDER) if _NAME.fullmatch(name) and _age(name) is not None}
    except OSError:
        return set()


def remove_unused() -> None:
    """Removes segments that no visible process uses, unless they are new.

    This does not harm jobs whose processes are not visible here, because an open segment exists until they
    end.
    """
    for name in _unused(present()):
        age = _age(name)
        if age is not None and age >= _YOUNG:
            with suppress(OSError):  # another process has removed it
                (_FOLDER / name).unlink()


def remove_after(before: set[str], processes: Iterable[int]) -> None:
    """Removes unused segments at the end of a job. Waits until those of the job are old enough.

    Args:
        before: the segments that existed at the start of the job.
        processes: the process IDs of the job.
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
    """Seconds since a segment was created.

    None if it is not a regular file of this user without other links.
    """
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
