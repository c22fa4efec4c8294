from __future__ import annotations

from collections.abc import Callable

#: A replica's number, or -1 for the launcher, and which of its streams: ``out`` or ``err``.
Source = tuple[int, str]


class LineWriter:
    """Puts the lines of several sources into one file or terminal, where a line may come in parts.

    A line whose parts follow one another is written as it is; if another source writes in between, the
    line is broken there and goes on behind a prefix of its own.

    Args:
        put: writes bytes of a stream.
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
        """Writes the beginning of a line, or more of it."""
        begin = self._begin(source, prefix)
        self._open = source
        self._put(source[1], begin + text)

    def ended(self) -> None:
        """Takes note that the unfinished line was ended otherwise: by the echo of a terminal."""
        self._open = None

    def _begin(self, source: Source, prefix: bytes) -> bytes:
        if self._open is None:
            return prefix
        return b"" if self._open == source else b"\n" + prefix
