"""A log file for each replica."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from .errors import JobStartError
from .line_writer import LineWriter, Source


class Logs:
    """The files ``replica-R.log`` in one folder.

    Other users may be able to write to the folder. Links, and files of other users, in place of a log file
    are rejected.

    Args:
        folder: the folder, which is created if it is missing, with access for this user only.
        show_message: called with a message for the user.

    Raises:
        JobStartError: the folder cannot be created.
    """

    def __init__(self, folder: Path, show_message: Callable[[str], None]) -> None:
        self._folder, self._show_message = folder, show_message
        self._files: dict[int, int] = {}
        self._writers: dict[int, LineWriter] = {}
        try:
            for path in (*reversed(folder.parents), folder):
                if not path.is_dir():
                    path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise JobStartError(f"--log-dir {folder}: {error.strerror}") from None

    def open(self, size: int, attempt: int) -> None:
        """Opens new files, or continues them after a restart.

        Raises:
            JobStartError: a file cannot be written, or is a link or another user's.
        """
        self.close()
        for rank in range(size):
            path = self._folder / f"replica-{rank}.log"
            try:
                self._files[rank] = _opened(path, keep=attempt > 0)
            except OSError as error:
                raise JobStartError(f"cannot write {path}: {error.strerror}") from None
            self._writers[rank] = LineWriter(lambda _stream, data, rank=rank: self._write(rank, data))  # type: ignore[misc]

    def line(self, source: Source, text: bytes) -> None:
        """Writes a line, or the last part of one."""
        if writer := self._writers.get(source[0]):
            writer.line(source, b"", text)

    def part(self, source: Source, text: bytes) -> None:
        """Writes the beginning or middle of a line."""
        if writer := self._writers.get(source[0]):
            writer.part(source, b"", text)

    def close(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()
        self._writers.clear()

    def _write(self, rank: int, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._files[rank], view) :]
        except OSError as error:
            # A full disk must not end the job: report it once, and continue without this file.
            os.close(self._files.pop(rank))
            del self._writers[rank]
            self._show_message(f"replica {rank}'s log cannot be written any more: {error.strerror}")


def _opened(path: Path, keep: bool) -> int:
    """Opens a log file for appending; its descriptor.

    Args:
        path: the file.
        keep: whether to keep its contents.

    Raises:
        OSError: it cannot be opened, or is a link, not a regular file, or another user's.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        file = os.open(path, flags, 0o666)
    except OSError as error:
        if path.is_symlink():
            raise PermissionError(error.errno, "it is a symbolic link") from None
        if error.errno == errno.ENXIO:  # a pipe without a reader, a socket
            raise PermissionError(error.errno, "it is not a regular file") from None
        raise
    status = os.fstat(file)
    why = ""
    if not stat.S_ISREG(status.st_mode):
        why = "it is not a regular file"
    elif status.st_uid != os.geteuid():
        why = "it is another user's"
    elif status.st_nlink > 1:
        why = "it has other names too (hard links)"
    if why:
        os.close(file)
        raise PermissionError(0, why)
    if not keep:
        os.ftruncate(file, 0)
    return file
