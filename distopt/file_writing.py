"""Writing files whole or not at all; errors say what was being written, where, and what room there is."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from distopt.file_access import create, open_to_write

__all__ = ["append_whole", "replaced_file", "explained_errors", "write_whole"]

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def explained_errors(path: str | os.PathLike[str], what: str, nbytes: int = 0) -> Iterator[None]:
    """Makes an OSError within say what could not be written.

    Args:
        path: the file.
        what: its contents in words, for the message.
        nbytes: how many bytes there are to write; 0 if that is not known.

    Raises:
        OSError: of the same number and kind, with ``path`` as its filename.
    """
    try:
        yield
    except OSError as error:
        text = f"{what} could not be written: {error.strerror or error}{_reason(error, path, nbytes)}"
        raise OSError(error.errno, text, os.fspath(path)) from error


@contextmanager
def replaced_file(path: str, what: str, nbytes: int = 0) -> Iterator[BinaryIO]:
    """A file to write into, which takes the place of the one at ``path`` at the end; or the old one stays.

    Args:
        path: the file.
        what: see :func:`explained_errors`.
        nbytes: see :func:`explained_errors`.
    """
    with explained_errors(path, what, nbytes):
        scratch = f"{path}.part"
        try:
            with create(scratch) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(scratch)
            raise


def write_whole(path: str, data: bytes, what: str) -> None:
    """Writes a file in place of the one at ``path``; links and devices are written to where they lead.

    Args:
        path: the file.
        data: what to write.
        what: see :func:`explained_errors`.
    """
    if os.path.islink(path) or (os.path.exists(path) and not os.path.isfile(path)):
        with explained_errors(path, what, len(data)), open_to_write(path) as file:
            file.write(data)
        return
    with replaced_file(path, what, len(data)) as file:
        file.write(data)


def append_whole(file: BinaryIO, data: bytes, path: str | os.PathLike[str], what: str) -> None:
    """Writes at the end of an open file, past its buffer; if that fails, the file is as it was.

    Args:
        file: open to be written, with nothing in its buffer.
        data: what to write.
        path: the file, for the message.
        what: see :func:`explained_errors`.
    """
    number = file.fileno()
    start = os.fstat(number).st_size if stat.S_ISREG(os.fstat(number).st_mode) else None
    rest = memoryview(data)
    with explained_errors(path, what, len(data)):
        try:
            while rest:
                rest = rest[os.write(number, rest) :]
        except OSError:
            if start is not None:
                with suppress(OSError):
                    os.ftruncate(number, start)
                    os.lseek(number, start, os.SEEK_SET)
            raise


def _reason(error: OSError, path: str | os.PathLike[str], nbytes: int) -> str:
    """What is known of the place that refused."""
    folder = os.path.dirname(os.path.abspath(path))
    if error.errno in _FULL:
        with suppress(OSError):
            needed = f"{nbytes:,} bytes to write, " if nbytes else ""
            return f" ({needed}{shutil.disk_usage(folder).free:,} bytes free)"
    if error.errno == errno.EFBIG:
        return f" ({nbytes:,} bytes to write; see `ulimit -f`)" if nbytes else " (see `ulimit -f`)"
    if not os.path.isdir(folder):
        return f" (there is no folder {folder!r}: create it first)"
    if error.errno in _NO_RIGHT:
        return f" (no permission to write it or the folder {folder!r})"
    return ""
