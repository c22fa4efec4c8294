"""Private views of shared memory: a replica may write to a view without the other replicas seeing it.

A view shows what any replica writes to the block. What the replica writes to the view is private: it can be
detected and discarded. If the system supports it, the view is copy-on-write memory, which costs nothing until
the replica writes: a private mapping of the block's file (``MAP_PRIVATE``,
https://man7.org/linux/man-pages/man2/mmap.2.html). ``/proc/self/pagemap`` tells which pages were copied
(https://docs.kernel.org/admin-guide/mm/pagemap.html). Otherwise, the view is a copy of the block.
"""

from __future__ import annotations

import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from distopt.comm.memory import SharedBlock
from distopt.comm.pages import LARGE, MAP_NORESERVE, discard, map_file, same_bytes
from distopt.typing import Array

__all__ = ["CopiedView", "MappedView", "PrivateView", "private_view"]

_PAGE = mmap.PAGESIZE
#: The bits of a pagemap entry from bit 61 on: the lowest says that the page belongs to a file; any other one
#: that the page is in memory or swapped out.
_SHIFT, _OF_FILE = 61, 1
_ENTRY = 8
#: How many bytes to compare at a time: a multiple of the page size of any system.
_AT_ONCE = 1 << 20


class PrivateView(ABC):
    """One replica's view of a block.

    Attributes:
        bytes: the view, a writable 1-D array of uint8 as long as the block.
    """

    bytes: Array

    @abstractmethod
    def written(self) -> list[tuple[int, int]]:
        """Returns where the replica may have written since the last discard.

        Returns:
            start and end of byte ranges, in order and disjoint. They start and end at page boundaries, or at
            the end of the block.
        """

    @abstractmethod
    def discard(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Shows the block again in ranges that :meth:`written` returned."""

    @abstractmethod
    def refresh(self) -> None:
        """Shows what was written to the block, if the view does not do so automatically.

        Data that the replica has written and not discarded may be lost.
        """


class MappedView(PrivateView):
    """A private mapping of the block's file: the kernel copies a page when the replica writes to it.

    Args:
        block: a block that keeps its file.

    Raises:
        OSError: it has no file, it cannot be mapped, or the kernel does not tell which pages it copied.
    """

    def __init__(self, block: SharedBlock) -> None:
        if block.file is None:
            raise OSError("the block has no file")
        self.bytes = map_file(block.file, block.bytes.size, mmap.MAP_PRIVATE | MAP_NORESERVE)
        self._try()

    def written(self) -> list[tuple[int, int]]:
        """See PrivateView. It reads 8 bytes per page."""
        size = self.bytes.size
        pages = -(-size // _PAGE)
        fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)  # anew: a child's is another file
        try:
            data = os.pread(fd, pages * _ENTRY, self.bytes.ctypes.data // _PAGE * _ENTRY)
        finally:
            os.close(fd)
        if len(data) != pages * _ENTRY:
            raise OSError("/proc/self/pagemap ends early")
        state = np.frombuffer(data, np.uint64) >> np.uint64(_SHIFT)
        return _ranges((state != 0) & (state & np.uint64(_OF_FILE) == 0), size)

    def discard(self, ranges: Sequence[tuple[int, int]]) -> None:
        """See PrivateView."""
        for begin, end in ranges:
            discard(self.bytes[begin:end])

    def refresh(self) -> None:
        """Does nothing: pages that were not copied are those of the block."""

    def _try(self) -> None:
        """Tests whether pagemap distinguishes pages that were read from pages that were written.

        Some kernels report every page within a large page as written, and some systems report nothing.
        """
        self.bytes[::LARGE].max()
        before = self.written()
        self.bytes[0] = self.bytes[0]
        after = self.written()
        self.discard(after)
        if before or after != [(0, min(_PAGE, self.bytes.size))] or self.written():
            raise OSError("/proc/self/pagemap does not tell which pages were written")


class CopiedView(PrivateView):
    """A copy of the block, compared with it.

    Args:
        block: any block.
    """

    def __init__(self, block: SharedBlock) -> None:
        self._block = block.bytes
        self.bytes = np.empty(-(-self._block.size // _PAGE) * _PAGE, np.uint8)[: self._block.size]
        np.copyto(self.bytes, self._block)

    def written(self) -> list[tuple[int, int]]:
        """See PrivateView. Includes pages of the block that were written since the last :meth:`refresh`."""
        size = self.bytes.size
        differ = np.zeros(-(-size // _PAGE), np.bool_)
        for start in range(0, size, _AT_ONCE):
            part = slice(start, min(start + _AT_ONCE, size))
            if not same_bytes(self.bytes[part], self._block[part]):
                apart = self.bytes[part] != self._block[part]
                starts = np.arange(0, apart.size, _PAGE)
                differ[start // _PAGE :][: starts.size] = np.logical_or.reduceat(apart, starts)
        return _ranges(differ, size)

    def discard(self, ranges: Sequence[tuple[int, int]]) -> None:
        """See PrivateView."""
        for begin, end in ranges:
            self.bytes[begin:end] = self._block[begin:end]

    def refresh(self) -> None:
        """See PrivateView."""
        self.discard(self.written())


def private_view(block: SharedBlock) -> PrivateView:
    """Returns a view of a block that was created for views: a mapping if possible, otherwise a copy."""
    try:
        return MappedView(block)
    except OSError:
        return CopiedView(block)


def _ranges(pages: Array, size: int) -> list[tuple[int, int]]:
    """The byte ranges of the pages that are True, up to ``size`` bytes."""
    if not pages.any():
        return []
    edges = np.flatnonzero(np.diff(pages, prepend=False, append=False)) * _PAGE
    return [(begin, min(end, size)) for begin, end in edges.reshape(-1, 2).tolist()]
