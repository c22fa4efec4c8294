"""Removes files that killed launchers have left in the temporary folder, when the next job starts.

Only this user's own files are removed, and only if nothing can be using them; links are never followed.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from .pipes import (
    FOLDER_PREFIX,
    MACHINE_FILE,
    UNFINISHED_FILE,
    location_of,
    machine,
    open_entry,
    open_private_folder,
)

#: The folder in which MPICH's process manager creates its files, independent of ``TMPDIR``.
_TEMPORARY = Path("/tmp")  # noqa: S108 (only searched, for files of this user)
_TOPOLOGY = re.compile(r"hydra_hwloc_xmlfile_\w{6}")
_MANAGERS = ("hydra_pmi_proxy", "mpiexec", "mpiexec.hydra", "mpirun")
#: Newer files are kept, because another launcher may still be creating its folder, or its processes read a
#: file.
_YOUNG = 10.0


def remove() -> None:
    """Removes the folders of dead launchers, and the files of dead process managers of MPICH."""
    temporary = Path(tempfile.gettempdir())
    for name in _names(temporary):
        if name.startswith(FOLDER_PREFIX):
            with suppress(OSError):
                _remove_folder(temporary / name)
    files = [name for name in _names(_TEMPORARY) if _TOPOLOGY.fullmatch(name)]
    since = _oldest_manager() if files else 0.0
    for name in files:
        with suppress(OSError):
            status = os.lstat(_TEMPORARY / name)
            plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == os.geteuid()
            if plain and status.st_ctime < min(since, time.time() - _YOUNG):
                os.unlink(_TEMPORARY / name)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _remove_folder(path: Path) -> None:
    """Removes a launcher's folder if nobody holds its lock, which means that the launcher is dead.

    Raises:
        OSError: the folder is in use, or another user's.
    """
    folder = open_private_folder(str(path))
    try:
        if MACHINE_FILE not in os.listdir(folder):
            if os.fstat(folder).st_mtime < time.time() - _YOUNG:
                with suppress(FileNotFoundError):
                    os.unlink(UNFINISHED_FILE, dir_fd=folder)
                path.rmdir()
            return
        if location_of(folder).partition(" ")[0] != machine():
            return
        lock = open_entry(folder, MACHINE_FILE, os.O_RDONLY, stat.S_IFREG)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The lock file last: if this process is killed here, the next one finds the folder and removes
            # the rest.
            for name in sorted(os.listdir(folder), key=lambda name: name == MACHINE_FILE):
                os.unlink(name, dir_fd=folder)
            path.rmdir()
        finally:
            os.close(lock)
    finally:
        os.close(folder)


def _oldest_manager() -> float:
    """The start time of this user's oldest running process manager, in seconds since the epoch.

    Now if none runs.
    """
    begins = [time.time()]
    for name in _names(Path("/proc")):
        with suppress(OSError, ValueError):
            process = Path("/proc", str(int(name)))
            if process.stat().st_uid == os.geteuid() and (process / "comm").read_text().strip() in _MANAGERS:
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                if fields[0] == "Z":
                    continue
                ticks = int(fields[19])
                uptime = float(Path("/proc/uptime").read_text().split()[0])
                begins.append(time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK"))
    return min(begins)
