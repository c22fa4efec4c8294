"""Standard streams on which several replicas of one process write."""

from __future__ import annotations

import io
from contextvars import ContextVar
from typing import Any, TextIO

__all__ = ["Prefixed", "replica"]

#: The number of the replica whose thread this is, or whose context it was started in a copy of.
replica: ContextVar[int] = ContextVar("distopt_replica", default=0)


class Prefixed(io.TextIOBase):
    """A text stream with the writing replica's number before each line.

    A replica that is interrupted within a line has it ended, so that no line has two writers.

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
        """Flushes the stream below."""
        self.plain.flush()

    def isatty(self) -> bool:
        """Whether the stream below is a terminal."""
        return self.plain.isatty()

    def fileno(self) -> int:
        """That of the stream below, so that ``input`` and pdb edit lines on a terminal."""
        return self.plain.fileno()

    @property
    def encoding(self) -> Any:  # type: ignore[override]
        """That of the stream below."""
        return self.plain.encoding

    @property
    def errors(self) -> Any:  # type: ignore[override]
        """That of the stream below."""
        return self.plain.errors

    @property
    def buffer(self) -> Any:
        """The bytes below; they get no numbers."""
        return self.plain.buffer
