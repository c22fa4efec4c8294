"""How output and news travel from the replicas to the launcher.

On the launcher's own machine each replica writes into named pipes of its own (``<rank>.out``,
``<rank>.err``) and all share one (``news``): what was written is with the launcher, whatever becomes of the
writer. A process on another machine sends whole records through its MPI launcher instead.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

#: Begins a record among the lines that an MPI launcher passes on, and the marks in a replica's error output.
MARK = b"\x1e"
#: Around the traceback of an uncaught exception, so that it can be shown last.
TRACEBACK_BEGINS = MARK + b"distopt traceback" + MARK
TRACEBACK_ENDS = MARK + b"distopt end" + MARK

_PIECE = 3000  # a record must be one atomic write to a pipe: 4096 bytes at most


@dataclass(frozen=True)
class News:
    """One event of a replica.

    Attributes:
        kind: ``start`` (values: pid of the replica, of its guardian), ``raised`` (exit code, exception name),
            ``exit`` (status, negative for a signal; 1 if the MPI launcher had asked for the end).
        rank: the replica's process number.
        values: the rest.
    """

    kind: str
    rank: int
    values: tuple[str, ...]


def encode(news: News) -> bytes:
    """One line."""
    return " ".join((news.kind, str(news.rank), *news.values)).encode() + b"\n"


def decode(line: bytes) -> News | None:
    """The reverse of `encode`; None for anything else."""
    words = line.decode(errors="replace").split()
    if len(words) < 3 or words[0] not in ("start", "raised", "exit") or not words[1].isdigit():
        return None
    return News(words[0], int(words[1]), tuple(words[2:]))


def records(rank: int, stream: str, line: bytes) -> list[bytes]:
    """A line without its end, as records short enough to be written at once; ``+`` says that more follows."""
    pieces = [line[at : at + _PIECE] for at in range(0, len(line), _PIECE)] or [b""]
    heads = [b"%s+" % stream.encode()] * (len(pieces) - 1) + [stream.encode()]
    return [b"%s%d %s %s\n" % (MARK, rank, head, piece) for head, piece in zip(heads, pieces, strict=True)]


def parse_record(line: bytes) -> tuple[int, str, bytes] | None:
    """Rank, stream (``out``, ``err``, ``news``; then ``+``: more follows) and text; None if it is none."""
    if not line.startswith(MARK):
        return None
    rank, _, rest = line[1:].partition(b" ")
    stream, _, text = rest.partition(b" ")
    known = stream in (b"out", b"err", b"news", b"out+", b"err+", b"news+")
    return (int(rank), stream.decode(), text) if rank.isdigit() and known else None


def machine() -> str:
    """A name for this running system that no other shares."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return os.uname().nodename


class Pipes:
    """The launcher's side: a private folder with the named pipes of ``size`` processes."""

    def __init__(self, size: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="distoptrun-"))
        (self.folder / "machine").write_text(machine())
        self.readers: dict[int, tuple[int, str]] = {}
        try:
            for rank in range(size):
                for stream in ("out", "err"):
                    self.readers[self._reader(f"{rank}.{stream}")] = (rank, stream)
            self.readers[self._reader("news")] = (-1, "news")
        except OSError:
            self.close()
            raise

    def _reader(self, name: str) -> int:
        path = self.folder / name
        os.mkfifo(path, 0o600)
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def close(self) -> None:
        """Ends all pipes and removes the folder."""
        for reader in self.readers:
            os.close(reader)
        self.readers.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


def writers(folder: str, rank: int) -> tuple[int, int, int] | None:
    """The process's side: descriptors for out, err and news; None if the launcher is on another machine."""
    try:
        if not folder or (Path(folder) / "machine").read_text() != machine():
            return None
        names = (f"{rank}.out", f"{rank}.err", "news")
        opened = [os.open(os.path.join(folder, name), os.O_WRONLY | os.O_NONBLOCK) for name in names]
    except OSError:
        return None
    for descriptor in opened:
        os.set_blocking(descriptor, True)
    return opened[0], opened[1], opened[2]
