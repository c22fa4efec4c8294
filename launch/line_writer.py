from __future__ import annotations

from collections.abc import Callable

#: A replica's rank, or -1 for the launcher, and its stream: ``out`` or ``err``.
Source = tuple[int, str]


class LineWriter:
    """Writes lines of several sources to one file or terminal. Lines may be passed in parts.

    If another source writes between two parts of a line, the line is broken there and continues after a new
    prefix.

    Args:
        put: called with the stream (``out`` or ``err``) and the bytes to write.
    """

    def __init__(self, put: Callable[[str, bytes], None]) -> None:
        self._put = put
        self._open: Source | None = None

    @property
    def open(self) -> bool:
        """Whether a line is unfinished."""
        return self._open is not None

    def line(self, source: Source, prefix: bytes, text: bytes) -> None:
        """Writes a line, or the last part of one."""
        begin = self._begin(source, prefix)
        self._open = None
        self._put(source[1], begin + text + b"\n")

    def part(self, source: Source, prefix: bytes, text: bytes) -> None:
        """Writes the beginning or middle of a line."""
        begin = self._begin(source, prefix)
        self._open = source
        self._put(source[1], begin + text)

    def ended(self) -> None:
        """Call this when the echo of a terminal has ended the unfinished line."""
        self._open = None

    def _begin(self, source: Source, prefix: bytes) -> bytes:
        if self._open is None:
            return prefix
        return b"" if self._open == source else b"\n" + prefix
