"""Opening files in places that are not only ours: what lies there may have been prepared by others.

Readers take regular files only, and no more bytes than they say: a named pipe would never end a read,
``/dev/zero`` never end it either. Writers follow no link that another user could have put there.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

__all__ = [
    "create",
    "is_shared",
    "make_folders",
    "open_to_append",
    "open_to_read",
    "open_to_write",
    "read_all",
]

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def open_to_read(path: str | os.PathLike[str], most: int | None = None) -> BinaryIO:
    """Opens a regular file.

    Args:
        path: the file; a link to one will do.
        most: how many bytes it may have at most.

    Raises:
        OSError: it cannot be opened, is something else than a file, or is longer.
    """
    # Without O_NONBLOCK the opening itself would wait for a writer at the other end of a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, "Is a directory", os.fspath(path))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file (a pipe, a device or a socket)", os.fspath(path))
        if most is not None and found.st_size > most:
            text = f"it has {found.st_size:,} bytes, and {most:,} are the most that is read of such a file"
            raise OSError(errno.EFBIG, text, os.fspath(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_all(path: str | os.PathLike[str], most: int) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: as of :func:`open_to_read`, or it grew beyond ``most`` meanwhile.
    """
    with open_to_read(path, most) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", os.fspath(path))
    return data


def is_shared(folder: str | os.PathLike[str]) -> bool:
    """Whether others than this user and root can put files into a folder, or take them away."""
    found = os.stat(folder)
    return bool(found.st_mode & _OTHERS) or found.st_uid not in (0, os.geteuid())


def open_to_write(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a file to be written from its beginning; see :func:`open_to_append`."""
    file = _opened(path, 0)
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.truncate(0)
    return file


def open_to_append(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a file to be written at its end; it is made if it is not there.

    In a folder that others can write (see :func:`is_shared`) only a regular file is taken that has this
    one name and is no link: theirs would lead to files that only this user can write.

    Raises:
        OSError: it cannot be opened, or is such a link.
    """
    return _opened(path, os.O_APPEND)


def create(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a new file, in place of whatever has the name.

    Raises:
        OSError: it cannot be made, or what has the name cannot be removed.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except FileExistsError:
        os.unlink(path)  # a link itself, not where it leads
        descriptor = os.open(path, flags, 0o666)
    return os.fdopen(descriptor, "wb")


def make_folders(path: str | os.PathLike[str]) -> None:
    """Makes a folder and those above it, for this user alone; folders that are there stay as they are.

    Raises:
        OSError: one cannot be made, or a file has its name.
    """
    path = os.fspath(path)
    above = os.path.dirname(path.rstrip(os.sep))
    if above and not os.path.isdir(above):
        make_folders(above)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise


def _opened(path: str | os.PathLike[str], how: int) -> BinaryIO:
    folder = os.path.dirname(os.path.abspath(path))
    shared = os.path.isdir(folder) and is_shared(folder)  # if there is none, the opening says so
    # Where others cannot meddle, links and devices are the user's own: /dev/stdout, a link to a larger disk.
    careful = os.O_NOFOLLOW | os.O_NONBLOCK if shared else 0
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how | careful, 0o666)
    except OSError as error:
        if shared and os.path.islink(path):
            text = (
                "it is a symbolic link in a folder that others can write, which is not followed: name the "
                "file that it leads to, or use a folder of your own"
            )
            raise OSError(error.errno, text, os.fspath(path)) from None
        if error.errno == errno.ENXIO:  # a pipe that nobody reads, a socket
            raise OSError(error.errno, _refusal("is not a regular file"), os.fspath(path)) from None
        raise
    found = os.fstat(descriptor)
    if shared and (not stat.S_ISREG(found.st_mode) or found.st_nlink > 1):
        os.close(descriptor)
        what = "has further names" if stat.S_ISREG(found.st_mode) else "is not a regular file"
        raise OSError(errno.EINVAL, _refusal(what), os.fspath(path))
    if shared:
        os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "ab" if how else "wb")


def _refusal(what: str) -> str:
    return f"it {what}, in a folder that others can write: remove it, or use a folder of your own"
