"""Maps memory files, in large pages if possible.

``DISTOPT_LARGE_PAGES=0`` turns this off (``python -m benchmarks tricks``). Measured with 300 MB: creating
the block takes 128 ms instead of 61, touching it first takes 1.3 ms in each process instead of 151, and a
step of 25 M parameters takes 1.3 to 1.8 % less time. Shared memory gets large pages only if the system's
administrator enables them, or if a program requests them for each block (``MADV_COLLAPSE``, Linux 6.1;
https://man7.org/linux/man-pages/man2/madvise.2.html). Its address must then be a multiple of their size,
which ``mmap.mmap`` cannot guarantee.
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

#: Bytes of a large page on x86-64, and on 64-bit ARM with pages of 4 KiB.
LARGE = 2 << 20
_MAP_FIXED, MAP_NORESERVE = 0x10, 0x4000
_MADV_COLLAPSE = 25


def map_file(fd: int, nbytes: int, kind: int = mmap.MAP_SHARED) -> Array:
    """Maps the first ``nbytes`` of a file as a 1-D array of uint8, at a multiple of the size of a large page.

    They stay mapped as long as the array or a view of it exists.

    Args:
        fd: the file.
        nbytes: the number of bytes.
        kind: whether writes go to the file (``MAP_SHARED``) or to copies of its pages (``MAP_PRIVATE``).

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
    # Not at exit, because other threads may still use the memory.
    weakref.finalize(memory, _c().munmap, begin, room).atexit = False
    return np.frombuffer(memoryview(memory), np.uint8)


def collapse(memory: Array) -> None:
    """Moves memory of :func:`map_file` to large pages, as far as the system has free ones."""
    whole = memory.size // LARGE * LARGE
    if whole:
        _c().madvise(memory.ctypes.data, whole, _MADV_COLLAPSE)


def discard(memory: Array) -> None:
    """Discards copied pages of a private mapping, which then shows the file again.

    Args:
        memory: a part of the mapping that starts at a page.

    Raises:
        OSError: the system refuses, for example because the memory is locked.
    """
    if _c().madvise(memory.ctypes.data, memory.size, mmap.MADV_DONTNEED):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def same_bytes(a: Array, b: Array) -> bool:
    """Whether two contiguous arrays of the same length hold the same bytes. It allocates no memory."""
    return _c().memcmp(a.ctypes.data, b.ctypes.data, a.nbytes) == 0  # type: ignore[no-any-return]


def _mapped(address: int | None, nbytes: int, protection: int, kind: int, fd: int) -> int:
    result = int(_c().mmap(address, nbytes, protection, kind, fd, 0) or 0)
    if result == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@cache
def _c() -> Any:
    """The C library, with the signatures of the functions used here."""
    c = ctypes.CDLL(None, use_errno=True)
    address, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    c.mmap.restype = address
    c.mmap.argtypes = [address, size, number, number, number, ctypes.c_long]
    c.munmap.argtypes = [address, size]
    c.madvise.argtypes = [address, size, number]
    c.memcmp.argtypes = [address, address, size]
    return c
