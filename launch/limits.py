"""Limits on the number of processes, checked before anything is started."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from .errors import JobStartError

_FILES_EACH, _FILES_OF_OUR_OWN = 2, 64
_LEAST_MEMORY = 4 << 20  # bytes that a Python process needs without any imports
_THREADS = Path("/proc/sys/kernel/threads-max")


def check_processes(count: int, here: bool) -> None:
    """Checks a job's number of processes.

    Args:
        count: the number of processes.
        here: whether all of them run on this machine.

    Raises:
        JobStartError: there are too many for the limit on open files, or for the memory of this machine.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most != resource.RLIM_INFINITY and _files(count) > most:
        raise JobStartError(
            f"{count} processes were asked for, but distoptrun opens {_FILES_EACH} files for each of them, "
            f"and may open {most} (ulimit -Hn). Start fewer."
        )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if here and count * _LEAST_MEMORY > memory:
        raise JobStartError(
            f"{count} processes were asked for, but this machine's {memory >> 20} MiB of memory hold "
            f"{memory // _LEAST_MEMORY} at most. Start fewer."
        )


def check_threads(count: int) -> None:
    """Checks the number of replicas in one process.

    Raises:
        JobStartError: the system does not allow as many threads.
    """
    try:
        most = int(_THREADS.read_text())
    except (OSError, ValueError):
        return
    if count > most:
        raise JobStartError(
            f"{count} replicas in one process were asked for; the system allows {most} threads"
        )


def open_files_for(count: int) -> None:
    """Raises the limit on open files to what a job of ``count`` processes needs."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now != resource.RLIM_INFINITY and _files(count) > now:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_files(count), most))


def _files(count: int) -> int:
    return _FILES_OF_OUR_OWN + _FILES_EACH * count
