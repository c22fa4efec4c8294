"""Memory that the processes of a node share, and that the system frees when they end.

It is an anonymous file (``memfd_create``), which the other processes open through ``/proc``. It has no name
in any file system, so nothing is left behind, even after ``kill -9``. Its pages are reserved when it is
created: a block that does not fit is an error then, instead of a bus error later.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import weakref
from contextlib import suppress
from pathlib import Path

import numpy as np

from distopt.comm.pages import collapse, map_file
from distopt.settings import settings
from distopt.typing import Array

__all__ = ["HANDLE_BYTES", "SharedBlock", "create_block", "open_block"]

_MARK_BYTES = 16
#: Process, descriptor, device, inode and length of a block, and the random mark after its end.
_HANDLE = struct.Struct(f"<qqQQq{_MARK_BYTES}s")
HANDLE_BYTES = _HANDLE.size
#: Seals that forbid shrinking and growing (``F_SEAL_SHRINK | F_SEAL_GROW``); only memory files have seals.
_SEALS = 2 | 4


class SharedBlock:
    """Zero-filled bytes that several replicas see.

    Attributes:
        bytes: the block as a 1-D array of uint8.
        handle: the argument of :func:`open_block` in other processes of the node; empty if there are none.
        file: a descriptor of its file, if it was created for views; otherwise None.
    """

    def __init__(self, data: Array, handle: bytes = b"") -> None:
        self.bytes = data
        self.handle = handle
        self.file: int | None = None

    def keep_file(self, fd: int) -> None:
        """Keeps a duplicate of the descriptor ``fd`` open as long as the block exists."""
        self.file = os.dup(fd)
        weakref.finalize(self, os.close, self.file).atexit = False


def _reserve(fd: int, nbytes: int) -> None:
    room = _room()
    if nbytes > room:  # otherwise the system would kill processes for lack of memory
        raise OSError(errno.ENOMEM, f"{nbytes:,} bytes asked for, {room:,} bytes of memory free")
    os.ftruncate(fd, nbytes)
    os.posix_fallocate(fd, 0, nbytes)


def _room() -> int:
    """The available memory of this machine or its container, in bytes."""
    info = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(info["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # no such limit here
    return free


def create_block(nbytes: int, views: bool = False) -> SharedBlock:
    """Creates a block. Other processes of the node open it with :func:`open_block` and its ``handle``.

    Args:
        nbytes: the length of the block.
        views: whether the block keeps its file, for private views.

    Raises:
        OSError: the system does not support such memory, or has not enough of it.
    """
    if not hasattr(os, "memfd_create"):
        raise OSError("this system has no memfd_create")
    fd = os.memfd_create("distopt", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        _reserve(fd, nbytes + _MARK_BYTES)
        mark = os.urandom(_MARK_BYTES)
        os.pwrite(fd, mark, nbytes)  # after the mapped part
        _seals(fd, _SEALS)
        status = os.fstat(fd)
        handle = _HANDLE.pack(os.getpid(), fd, status.st_dev, status.st_ino, nbytes, mark)
        block = SharedBlock(map_file(fd, nbytes), handle)
        if views:
            block.keep_file(fd)
    except OSError:
        os.close(fd)
        raise
    if settings().large_pages:
        collapse(block.bytes)
    return block


def open_block(handle: bytes, length: int, views: bool = False) -> SharedBlock:
    """Opens a block of ``length`` bytes that another process of this node created.

    In another container, a process id may belong to another process, and the path to any file of this user.
    So the file is checked before it is opened: it must be the block, sealed at its full length.

    Args:
        handle: the handle of the block.
        length: the length that it must have, in bytes.
        views: whether the block keeps its file, for private views.

    Raises:
        OSError: it cannot be opened, e.g. across containers, or has another length.
    """
    pid, fd, device, inode, nbytes, mark = _HANDLE.unpack(handle)
    path = f"/proc/{pid}/fd/{fd}"
    if nbytes != length:  # compiled code would write past the end of a shorter one
        raise OSError(f"the memory has {nbytes:,} bytes instead of {length:,}")
    expected = (device, inode, nbytes + _MARK_BYTES)
    if _identity(os.stat(path)) != expected:
        raise OSError(f"{path} is another file in this process: it sees other process numbers")
    own = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        same = _identity(os.fstat(own)) == expected and os.pread(own, _MARK_BYTES, nbytes) == mark
        if not same or _seals(own) & _SEALS != _SEALS:
            raise OSError(f"{path} is not the memory that the other process made")
        block = SharedBlock(map_file(own, nbytes), handle)
        if views:
            block.keep_file(own)
        return block
    finally:
        os.close(own)


def _seals(fd: int, add: int = 0) -> int:
    """Adds seals to a memory file, and returns all of its seals."""
    import fcntl  # not on every system

    if add:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, add)
    return fcntl.fcntl(fd, fcntl.F_GET_SEALS)


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_dev, status.st_ino, status.st_size


def release_handle(block: SharedBlock) -> None:
    """Closes the creator's descriptor after all processes have opened the block; the memory stays."""
    pid, fd, *_ = _HANDLE.unpack(block.handle)
    if pid == os.getpid():
        os.close(fd)


def unlink_mapped(pattern: str) -> None:
    """Unlinks files that this process has mapped, after all processes that need them have mapped them.

    So the system frees their memory when the last of these processes ends, even after ``kill -9``.

    Args:
        pattern: a regular expression for their paths.
    """
    try:
        text = Path("/proc/self/maps").read_text(errors="replace")
    except OSError:
        return
    for path in set(re.findall(pattern, text)):
        with suppress(OSError):  # another process was faster
            os.unlink(path)


def thread_block(nbytes: int, views: bool = False) -> SharedBlock:
    """Creates a block for the replicas of one process.

    Args:
        nbytes: the length of the block.
        views: whether the block should have a file, for private views. If the system does not support this,
            it has none.
    """
    if views:
        with suppress(OSError):
            block = create_block(nbytes, views)
            release_handle(block)
            return block
    return SharedBlock(np.zeros(nbytes, np.uint8))
