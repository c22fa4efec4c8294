"""Memory that the processes of a node share and that vanishes with them.

The memory has no name in any file system. It is an anonymous file (``memfd_create``) that the others open
through ``/proc``, so nothing is left behind, even after ``kill -9``. Its pages are reserved at
once: a block that does not fit is refused here, instead of causing a bus error later.
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
#: Process, descriptor, device, inode and length of a block, and the random bytes behind it.
_HANDLE = struct.Struct(f"<qqQQq{_MARK_BYTES}s")
HANDLE_BYTES = _HANDLE.size
#: Seals against shrinking and growing (``F_SEAL_SHRINK | F_SEAL_GROW``); only memory files have any.
_SEALS = 2 | 4


class SharedBlock:
    """Zero-filled bytes that several replicas see.

    Attributes:
        bytes: the block as a 1-D array of uint8.
        handle: how other processes of the node find it; empty if there are none.
        file: the open file behind it, if views are made of it; otherwise None.
    """

    def __init__(self, data: Array, handle: bytes = b"") -> None:
        self.bytes = data
        self.handle = handle
        self.file: int | None = None

    def keep_file(self, fd: int) -> None:
        """Keeps a descriptor of the file of its own, as long as the block lives."""
        self.file = os.dup(fd)
        weakref.finalize(self, os.close, self.file).atexit = False


def _reserve(fd: int, nbytes: int) -> None:
    room = _room()
    if nbytes > room:  # taking what is not there would end with the system killing processes
        raise OSError(errno.ENOMEM, f"{nbytes:,} bytes asked for, {room:,} bytes of memory free")
    os.ftruncate(fd, nbytes)
    os.posix_fallocate(fd, 0, nbytes)


def _room() -> int:
    """The bytes of memory that can still be had, in this machine or its container."""
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
    """A block of its own; ``handle`` is what :func:`open_block` needs in other processes.

    Args:
        nbytes: its length.
        views: whether it keeps its file, for views of it.

    Raises:
        OSError: no such memory on this system, or no room for it.
    """
    if not hasattr(os, "memfd_create"):
        raise OSError("this system has no memfd_create")
    fd = os.memfd_create("distopt", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        _reserve(fd, nbytes + _MARK_BYTES)
        mark = os.urandom(_MARK_BYTES)
        os.pwrite(fd, mark, nbytes)  # behind what is mapped
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
    """The block of ``length`` bytes that another process of this node created.

    The number of a process means something else in another container: what is found there may be any file of
    this user. It is looked at before it is opened, and must be the block itself, of its full length for good.

    Args:
        handle: the block's.
        length: how many bytes it must have.
        views: whether the block keeps its file, for views of it.

    Raises:
        OSError: it cannot be opened from here, e.g. across containers, or has another length.
    """
    pid, fd, device, inode, nbytes, mark = _HANDLE.unpack(handle)
    path = f"/proc/{pid}/fd/{fd}"
    if nbytes != length:  # compiled code would write behind the end of a shorter one
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
    """The seals of a memory file, after some more were put on it."""
    import fcntl  # not on every system

    if add:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, add)
    return fcntl.fcntl(fd, fcntl.F_GET_SEALS)


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_dev, status.st_ino, status.st_size


def release_handle(block: SharedBlock) -> None:
    """Closes the creator's descriptor once everyone has opened the block; the memory stays."""
    pid, fd, *_ = _HANDLE.unpack(block.handle)
    if pid == os.getpid():
        os.close(fd)


def take_names(pattern: str) -> None:
    """Takes the names of files away that this process has in memory, and all others that need them too.

    They then vanish with their last user, as the blocks here do, also after ``kill -9``.

    Args:
        pattern: a regular expression of their paths.
    """
    try:
        text = Path("/proc/self/maps").read_text(errors="replace")
    except OSError:
        return
    for path in set(re.findall(pattern, text)):
        with suppress(OSError):  # another process was faster
            os.unlink(path)


def thread_block(nbytes: int, views: bool = False) -> SharedBlock:
    """A block for the replicas of one process, which share all memory anyway.

    Args:
        nbytes: its length.
        views: whether it should be a file, for views of it; where there are no such files, it is none.
    """
    if views:
        with suppress(OSError):
            block = create_block(nbytes, views)
            release_handle(block)
            return block
    return SharedBlock(np.zeros(nbytes, np.uint8))
