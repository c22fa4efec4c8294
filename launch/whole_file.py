"""Writes files atomically: readers see either the old text or the new one."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from .errors import JobStartError


def write_whole(path: Path, text: str) -> None:
    """Replaces a file with one that contains ``text``, with the permissions of the umask.

    Raises:
        OSError: it cannot be written.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(scratch, flags, 0o666)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(scratch, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(scratch)
        raise


def check_writable(option: str, path: Path) -> None:
    """Checks before the job starts that a file can be written.

    Raises:
        JobStartError: the folder is missing or not writable, or the name belongs to something else than a
            file.
    """
    folder = path.parent
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        kind = stat.S_IFREG
    except OSError as error:
        raise JobStartError(f"{option} {path}: {error.strerror}") from None
    if not stat.S_ISREG(kind):
        raise JobStartError(f"{option} {path}: this name is taken by something that is not a plain file")
    if not folder.is_dir():
        raise JobStartError(f"{option} {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise JobStartError(f"{option} {path}: the folder {folder} cannot be written to")
