"""Reading small text files that a user names, and that need not be what they should be."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

#: The most bytes that are read of such a file.
MOST = 4 << 20


def read_text(path: str | Path, errors: str = "strict") -> str:
    """The text of a regular file.

    Args:
        path: the file.
        errors: what to do about bytes that are no UTF-8, as for `bytes.decode`.

    Raises:
        OSError: it cannot be read, is no file (but a pipe or a device), or is too long; `strerror` says so.
        ValueError: the name or the text is none.
    """
    # Without O_NONBLOCK the opening itself would wait for a writer at the other end of a pipe.
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
