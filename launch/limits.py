"""How many processes can be started from here: asked before anything is made."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from .errors import JobStartError

_FILES_EACH, _FILES_OF_OUR_OWN = 2, 64
_LEAST_MEMORY = 4 << 20  # of a Python process that has loaded nothing
_THREADS = Path("/proc/sys/kernel/threads-max")


def check_processes(count: int, here: bool) -> None:
    """Checks the number of a job's processes.

    Args:
        count: how many.
        here: whether all of them run on this machine.

    Raises:
        JobStartError: more than can be.
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
    """Checks the number of replicas that one process is to hold.

    Raises:
        JobStartError: more than the system has threads.
    """
    try:
        most = int(_THREADS.read_text())
    except (OSError, ValueError):
        return
    if count > most:
        raise JobStartError(f"{count} replicas in one process were asked for; the system has {most} threads")


def open_files_for(count: int) -> None:
    """Lets this process open what a job of so many processes takes."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now != resource.RLIM_INFINITY and _files(count) > now:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_files(count), most))


def _files(count: int) -> int:
    return _FILES_OF_OUR_OWN + _FILES_EACH * count
