"""The named pipes between the launcher and the replicas on its machine.

Each replica writes into its own (``<rank>.out``, ``<rank>.err``), and all share one for events (``events``):
what has been written reaches the launcher, whatever happens to the writer. Replica 0 reads standard input
from one more (``0.in``). A process on another machine sends records through its MPI launcher instead (see
`output_forwarder`).

The name of the pipes' folder also reaches processes on other machines, where a folder of that name may belong
to somebody else. So a folder is used only if it is private to this user.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

#: Begins the name of the folder with the pipes of a job.
FOLDER_PREFIX = "distoptrun-"
#: The file in it that says where the launcher is; locked as long as the launcher lives.
MACHINE_FILE = "machine"
#: The same while it is being made.
UNFINISHED_FILE = "new"


def machine() -> str:
    """A name for this running system that no other shares."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return os.uname().nodename


def location() -> str:
    """The machine, and the namespace in which process numbers mean the same as here."""
    try:
        return f"{machine()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return machine()


class Pipes:
    """The launcher's side: a private folder with the named pipes of ``size`` processes.

    Attributes:
        folder: where they are.
        readers: the launcher's ends of the replicas' outputs and of the events, with replica and stream.
    """

    def __init__(self, size: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
        self.readers: dict[int, tuple[int, str]] = {}
        self._others: list[int] = []
        try:
            # By descriptor from here on: in some temporary folders others can exchange what is in them.
            self._folder_fd = open_private_folder(str(self.folder))
            self._others.append(self._folder_fd)
            self._others.append(_locked(self._folder_fd))
            for rank in range(size):
                for stream in ("out", "err"):
                    self.readers[self._reader(f"{rank}.{stream}")] = (rank, stream)
            self.readers[self._reader("events")] = (-1, "events")
            # Also between the end of one replica and the start of the next, somebody may write.
            self._others.append(open_entry(self._folder_fd, "events", os.O_WRONLY, stat.S_IFIFO))
            # A replica 0 that reads before there is a writer would find an end-of-file, and without a reader
            # there can be no writer.
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
        """A descriptor whose bytes replica 0 reads, once it has started here; to be closed by the caller."""
        writer, reader = self._others.pop(), self._others.pop()
        os.close(reader)
        return writer

    def close(self) -> None:
        """Ends all pipes and removes the folder."""
        for descriptor in (*self.readers, *self._others):
            os.close(descriptor)
        self.readers.clear()
        self._others.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


def _locked(folder: int) -> int:
    """Makes the file that says where this process is; complete and locked once it has its name."""
    descriptor = os.open(UNFINISHED_FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
    with suppress(OSError):  # a file system without locks: then nobody tidies up after a kill
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(descriptor, location().encode())
    os.rename(UNFINISHED_FILE, MACHINE_FILE, src_dir_fd=folder, dst_dir_fd=folder)
    return descriptor


def open_private_folder(path: str) -> int:
    """A descriptor of a folder that is this user's alone, and no link.

    Raises:
        OSError: there is none, or it is not.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    status = os.fstat(folder)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        os.close(folder)
        raise PermissionError(f"{path} is not this user's alone")
    return folder


def open_entry(folder: int, name: str, flags: int, kind: int) -> int:
    """Opens this user's own file of one kind (``stat.S_IFIFO``, ``stat.S_IFREG``) in a folder.

    Raises:
        OSError: there is none, or it is a link, of another kind, or another user's.
    """
    descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    status = os.fstat(descriptor)
    if stat.S_IFMT(status.st_mode) != kind or status.st_uid != os.geteuid():
        os.close(descriptor)
        raise PermissionError(f"{name} is not what it should be")
    os.set_blocking(descriptor, True)
    return descriptor


def location_of(folder: int) -> str:
    """What the folder's file says of the `location` of its launcher.

    Raises:
        OSError: it cannot be read, or is not this user's.
    """
    descriptor = open_entry(folder, MACHINE_FILE, os.O_RDONLY, stat.S_IFREG)
    try:
        return os.read(descriptor, 256).decode(errors="replace")
    finally:
        os.close(descriptor)


def open_writers(folder: str, rank: int) -> tuple[int, int, int] | None:
    """The process's side: descriptors for out, err and events; None if the launcher is elsewhere."""
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
    """The process's standard input: replica 0's comes from the launcher, that of the others is empty.

    To be called where `writers` has found the launcher on this machine.
    """
    if rank == 0:
        with suppress(OSError):
            place = open_private_folder(folder)
            try:
                return open_entry(place, "0.in", os.O_RDONLY, stat.S_IFIFO)
            finally:
                os.close(place)
    return os.open(os.devnull, os.O_RDONLY)
