"""The named pipes between the launcher and the replicas on its machine.

Each replica writes to its own pipes (``<rank>.out``, ``<rank>.err``), and all share one for events
(``events``). The launcher holds the read ends open, so what was written reaches it even if the writer is
killed. Replica 0 reads standard input from another pipe (``0.in``). Processes on other machines send records
through the MPI launcher instead (see `output_forwarder`).

The name of the folder is also passed to processes on other machines, where a folder of that name may be
another user's. So a folder is used only if it is private to this user.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

#: The prefix of the names of the folders.
FOLDER_PREFIX = "distoptrun-"
#: The file with the launcher's `location`, which is locked while the launcher runs.
MACHINE_FILE = "machine"
#: The name of this file until it is complete.
UNFINISHED_FILE = "new"


def machine() -> str:
    """A unique ID of this running system."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return os.uname().nodename


def location() -> str:
    """The machine and PID namespace of this process, in which its process IDs are valid."""
    try:
        return f"{machine()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return machine()


class Pipes:
    """The launcher's side: a private folder with the named pipes of ``size`` processes.

    Attributes:
        folder: the folder.
        readers: the launcher's read ends: descriptor -> (rank, stream), with rank -1 for events.
    """

    def __init__(self, size: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
        self.readers: dict[int, tuple[int, str]] = {}
        self._others: list[int] = []
        try:
            # From here on by descriptor, because other users can replace entries of some temporary folders.
            self._folder_fd = open_private_folder(str(self.folder))
            self._others.append(self._folder_fd)
            self._others.append(_locked(self._folder_fd))
            for rank in range(size):
                for stream in ("out", "err"):
                    self.readers[self._reader(f"{rank}.{stream}")] = (rank, stream)
            self.readers[self._reader("events")] = (-1, "events")
            # Keeps the pipe open while no replica has it open.
            self._others.append(open_entry(self._folder_fd, "events", os.O_WRONLY, stat.S_IFIFO))
            # Without a writer replica 0 would read end-of-file, and without a reader no writer can open it.
            self._others.append(self._reader("0.in"))
            self._others.append(open_entry(self._folder_fd, "0.in", os.O_WRONLY, stat.S_IFIFO))
        except OSError:
            self.close()
            raise

    def _reader(self, name: str) -> int:
        os.mkfifo(name, 0o600, dir_fd=self._folder_fd)
        reader = open_entry(self._folder_fd, name, os.O_RDONLY, stat.S_IFIFO)
        os.set_blocking(reader, False)
        return reader

    def input(self) -> int:
        """The write end of replica 0's standard input, if it runs on this machine; the caller closes it."""
        writer, reader = self._others.pop(), self._others.pop()
        os.close(reader)
        return writer

    def close(self) -> None:
        """Closes all pipes and removes the folder."""
        for descriptor in (*self.readers, *self._others):
            os.close(descriptor)
        self.readers.clear()
        self._others.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


def _locked(folder: int) -> int:
    """Creates the file with the location. It is complete and locked before it gets its final name."""
    descriptor = os.open(UNFINISHED_FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
    with suppress(OSError):  # without file locks, a folder is not removed if its launcher is killed
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(descriptor, location().encode())
    os.rename(UNFINISHED_FILE, MACHINE_FILE, src_dir_fd=folder, dst_dir_fd=folder)
    return descriptor


def open_private_folder(path: str) -> int:
    """Opens a folder that only this user can access, and that is not a link.

    Raises:
        OSError: it does not exist, or is not private.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    status = os.fstat(folder)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        os.close(folder)
        raise PermissionError(f"{path} is not private to this user")
    return folder


def open_entry(folder: int, name: str, flags: int, kind: int) -> int:
    """Opens a file in a folder, if it is this user's and of one kind (``stat.S_IFIFO`` or ``stat.S_IFREG``).

    Raises:
        OSError: it does not exist, is a link, is of another kind, or is another user's.
    """
    descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    status = os.fstat(descriptor)
    if stat.S_IFMT(status.st_mode) != kind or status.st_uid != os.geteuid():
        os.close(descriptor)
        raise PermissionError(f"{name} is of another kind, or another user's")
    os.set_blocking(descriptor, True)
    return descriptor


def location_of(folder: int) -> str:
    """The `location` of the launcher that created a folder.

    Raises:
        OSError: it cannot be read, or is not this user's.
    """
    descriptor = open_entry(folder, MACHINE_FILE, os.O_RDONLY, stat.S_IFREG)
    try:
        return os.read(descriptor, 256).decode(errors="replace")
    finally:
        os.close(descriptor)


def open_writers(folder: str, rank: int) -> tuple[int, int, int] | None:
    """Opens the replica's pipes for standard output, standard error and events.

    Returns:
        The descriptors; None if the launcher is on another machine.
    """
    opened: list[int] = []
    if not folder:
        return None
    try:
        place = open_private_folder(folder)
        try:
            if location_of(place) != location():
                return None
            for name in (f"{rank}.out", f"{rank}.err", "events"):
                opened.append(open_entry(place, name, os.O_WRONLY, stat.S_IFIFO))
        finally:
            os.close(place)
    except OSError:
        for descriptor in opened:
            os.close(descriptor)
        return None
    return opened[0], opened[1], opened[2]


def open_stdin(folder: str, rank: int) -> int:
    """Opens a replica's standard input: the pipe from the launcher for replica 0, /dev/null for the others.

    Call it only if the launcher is on this machine (see `open_writers`).
    """
    if rank == 0:
        with suppress(OSError):
            place = open_private_folder(folder)
            try:
                return open_entry(place, "0.in", os.O_RDONLY, stat.S_IFIFO)
            finally:
                os.close(place)
    return os.open(os.devnull, os.O_RDONLY)
