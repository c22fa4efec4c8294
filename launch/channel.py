"""How output and events travel from the replicas to the launcher.

On the launcher's own machine each replica writes into named pipes of its own (``<rank>.out``,
``<rank>.err``) and all share one (``events``): what was written is with the launcher, whatever becomes of the
writer. Replica 0 reads standard input from one more (``0.in``). A process on another machine sends whole
records through its MPI launcher instead.

The names of the pipes' folder reach processes on other machines too, where a folder of that name may be
somebody else's: only one that is this user's alone is used.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: Begins a record among the lines that an MPI launcher passes on, and the marks in a replica's error output.
MARK = b"\x1e"
#: Around the traceback of an uncaught exception, so that it can be shown last.
TRACEBACK_BEGINS = MARK + b"distopt traceback" + MARK
TRACEBACK_ENDS = MARK + b"distopt end" + MARK

#: Begins the name of the folder with the pipes of a job.
FOLDER_PREFIX = "distoptrun-"
#: The file in it that says where the launcher is; locked as long as the launcher lives.
MACHINE_FILE = "machine"
#: The same while it is being made.
UNFINISHED_FILE = "new"

_KINDS = ("start", "done", "raised", "exit")
_RANK = re.compile(r"[0-9]{1,9}")
_PIECE = 3000  # a record must be one atomic write to a pipe: 4096 bytes at most


@dataclass(frozen=True)
class Event:
    """One event of a replica.

    Attributes:
        kind: ``start`` (values: pid of the replica, of its supervisor), ``done`` (0; the program has come to
            its end), ``raised`` (exit code, exception name), ``exit`` (status, negative for a signal; 1
            if the MPI launcher had asked for the end).
        rank: the replica's process number.
        values: the rest.
    """

    kind: str
    rank: int
    values: tuple[str, ...]


def encode(event: Event) -> bytes:
    """One line."""
    return " ".join((event.kind, str(event.rank), *event.values)).encode() + b"\n"


def decode(line: bytes) -> Event | None:
    """The reverse of `encode`; None for anything else."""
    words = line.decode(errors="replace").split()
    if len(words) < 3 or words[0] not in _KINDS or not _RANK.fullmatch(words[1]):
        return None
    return Event(words[0], int(words[1]), tuple(words[2:]))


def records(rank: int, stream: str, data: bytes) -> list[bytes]:
    """Bytes of a stream as records, lines short enough to be written at once; ``+``: its line goes on."""
    found = []
    *whole, last = data.split(b"\n")
    for text, end in [*((line, b"") for line in whole), *([(last, b"+")] if last else [])]:
        pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)] or [b""]
        heads = [b"+"] * (len(pieces) - 1) + [end]
        for head, piece in zip(heads, pieces, strict=True):
            found.append(b"%s%d %s%s %s\n" % (MARK, rank, stream.encode(), head, piece))
    return found


def parse_record(line: bytes) -> tuple[int, str, bytes] | None:
    """Rank, stream (``out``, ``err``, ``events``; then ``+``: more follows) and text; None if it is none."""
    if not line.startswith(MARK):
        return None
    rank, _, rest = line[1:].partition(b" ")
    stream, _, text = rest.partition(b" ")
    known = stream in (b"out", b"err", b"events", b"out+", b"err+", b"events+")
    number = rank.decode(errors="replace")
    return (int(number), stream.decode(), text) if _RANK.fullmatch(number) and known else None


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
