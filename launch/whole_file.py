"""Writes files whole or not at all: whoever reads one sees the old text or the new one."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from .errors import JobStartError


def write_whole(path: Path, text: str) -> None:
    """Replaces a file by one with this text, readable as the umask says.

    Raises:
        OSError: it cannot be written, or something else than a plain file has its name.
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
    """Checks before the job that a file can be written at its end.

    Raises:
        JobStartError: its folder is missing or cannot be written to, or its name is taken.
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
