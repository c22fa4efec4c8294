"""Mapping a file of memory so that the processor reaches it by large pages.

``DISTOPT_LARGE_PAGES=0`` does without (``python -m benchmarks tricks``). Measured with 300 MB: the block
takes 128 ms to make in place of 61, its first touch 1.3 ms in place of 151 in each process, and a step of
25 M parameters 1.3 to 1.8 % less. Shared memory gets large pages only where the system's administrator says
so, unless one asks for each block (``MADV_COLLAPSE``, Linux 6.1;
https://man7.org/linux/man-pages/man2/madvise.2.html), and only at addresses that are multiples of their
size, which ``mmap.mmap`` cannot promise.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from functools import cache
from typing import Any

import numpy as np

from distopt.typing import Array

__all__ = ["LARGE", "MAP_NORESERVE", "collapse", "discard", "map_file", "same_bytes"]

#: Bytes of a large page: what x86-64, and 64-bit ARM with pages of 4 KiB, have.
LARGE = 2 << 20
_MAP_FIXED, MAP_NORESERVE = 0x10, 0x4000
_MADV_COLLAPSE = 25


def map_file(fd: int, nbytes: int, kind: int = mmap.MAP_SHARED) -> Array:
    """The first ``nbytes`` of a file as a 1-D array of uint8, at a multiple of a large page's size.

    They stay mapped as long as the array or a view of it lives.

    Args:
        fd: the file.
        nbytes: how many bytes of it.
        kind: what is written goes to the file (``MAP_SHARED``), or to copies of its pages (``MAP_PRIVATE``).

    Raises:
        OSError: it cannot be mapped.
    """
    if nbytes < LARGE:
        return np.frombuffer(mmap.mmap(fd, nbytes, kind), np.uint8)
    room = nbytes + LARGE
    begin = _mapped(None, room, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE, -1)
    start = -(-begin // LARGE) * LARGE
    try:
        _mapped(start, nbytes, mmap.PROT_READ | mmap.PROT_WRITE, kind | _MAP_FIXED, fd)
    except OSError:
        _c().munmap(begin, room)
        raise
    memory = (ctypes.c_ubyte * nbytes).from_address(start)
    # Not at exit: other threads may still be at work there.
    weakref.finalize(memory, _c().munmap, begin, room).atexit = False
    return np.frombuffer(memoryview(memory), np.uint8)


def collapse(memory: Array) -> None:
    """Moves memory of :func:`map_file` to large pages, as far as the system has them to give."""
    whole = memory.size // LARGE * LARGE
    if whole:
        _c().madvise(memory.ctypes.data, whole, _MADV_COLLAPSE)


def discard(memory: Array) -> None:
    """Gives back the copies of pages that lie in this memory; it begins with a page.

    Raises:
        OSError: the system keeps them, as it does with memory that is locked.
    """
    if _c().madvise(memory.ctypes.data, memory.size, mmap.MADV_DONTNEED):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def same_bytes(a: Array, b: Array) -> bool:
    """Whether two contiguous arrays of one length hold the same bytes; no memory is taken for it."""
    return _c().memcmp(a.ctypes.data, b.ctypes.data, a.nbytes) == 0  # type: ignore[no-any-return]


def _mapped(address: int | None, nbytes: int, protection: int, kind: int, fd: int) -> int:
    result = int(_c().mmap(address, nbytes, protection, kind, fd, 0) or 0)
    if result == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@cache
def _c() -> Any:
    """The C library, with the signatures of what is used here."""
    c = ctypes.CDLL(None, use_errno=True)
    address, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    c.mmap.restype = address
    c.mmap.argtypes = [address, size, number, number, number, ctypes.c_long]
    c.munmap.argtypes = [address, size]
    c.madvise.argtypes = [address, size, number]
    c.memcmp.argtypes = [address, address, size]
    return c
