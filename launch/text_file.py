"""Reads small text files that a user names. The name may refer to anything, such as a device."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

#: Maximum size of such a file, in bytes.
MOST = 4 << 20


def read_text(path: str | Path, errors: str = "strict") -> str:
    """The text of a regular file.

    Args:
        path: the file.
        errors: how to treat bytes that are not UTF-8, as in `bytes.decode`.

    Raises:
        OSError: it cannot be read, is not a regular file, or is too long; `strerror` says why.
        ValueError: the path or the text is invalid.
    """
    # Without O_NONBLOCK, opening a pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(kind):
            raise OSError(errno.EINVAL, "not a regular file, but a pipe or a device", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(MOST + 1)
    finally:
        os.close(descriptor)
    if len(data) > MOST:
        raise OSError(errno.EFBIG, f"it has more than {MOST:,} bytes", str(path))
    return data.decode("utf-8", errors)
