"""Standard streams for several replicas in one process."""

from __future__ import annotations

import io
from contextvars import ContextVar
from typing import Any, TextIO

__all__ = ["PrefixedStream", "replica"]

#: The number of the replica that this thread, or the context that it was started with, belongs to.
replica: ContextVar[int] = ContextVar("distopt_replica", default=0)


class PrefixedStream(io.TextIOBase):
    """A text stream that prefixes each line with the number of the replica that writes it.

    If another replica writes in between, an unfinished line is ended, so that no line has two writers.

    Args:
        plain: where the lines go.
    """

    def __init__(self, plain: TextIO) -> None:
        self.plain = plain
        self._in_line_of: int | None = None

    def write(self, text: str) -> int:
        """Writes ``text``, each new line after ``"[number] "``."""
        number = replica.get()
        for line in text.splitlines(keepends=True):
            if self._in_line_of not in (None, number):
                self.plain.write("\n")
                self._in_line_of = None
            if self._in_line_of is None:
                self.plain.write(f"[{number}] ")
            self.plain.write(line)
            self._in_line_of = None if line.endswith(("\n", "\r")) else number
        return len(text)

    def flush(self) -> None:
        """Flushes the underlying stream."""
        self.plain.flush()

    def isatty(self) -> bool:
        """Whether the underlying stream is a terminal."""
        return self.plain.isatty()

    def fileno(self) -> int:
        """That of the underlying stream, so that ``input`` and pdb edit lines on a terminal."""
        return self.plain.fileno()

    @property
    def encoding(self) -> Any:  # type: ignore[override]
        """That of the underlying stream."""
        return self.plain.encoding

    @property
    def errors(self) -> Any:  # type: ignore[override]
        """That of the underlying stream."""
        return self.plain.errors

    @property
    def buffer(self) -> Any:
        """The underlying binary stream; its bytes get no prefix."""
        return self.plain.buffer
