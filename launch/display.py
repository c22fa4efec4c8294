"""Display: shows whole lines with the number of the replica, and writes log files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from .line_writer import LineWriter, Source
from .logs import Logs
from .output_queue import OutputQueue
from .standard_streams import ERR, OUT

_LAUNCHER: Source = (-1, "err")
_CLEAR = b"\r\x1b[K"
#: How many bytes of an unfinished line are shown.
_WIDEST = 4096


class Display:
    """Writes lines to the terminal and to log files.

    Args:
        shown: the replicas whose output goes to the terminal; None for all.
        terminal: whether output goes to the terminal at all. Tracebacks and messages always do.
        timestamps: whether each line starts with the time.
        logs: the folder for the log files; None for no log files.
        named: whether lines of standard output already have the number of the replica, as with several
            replicas in each process.

    Attributes:
        output: the queue for standard output and error.

    Raises:
        JobStartError: the folder cannot be created.
    """

    def __init__(
        self,
        shown: tuple[int, ...] | None,
        terminal: bool,
        timestamps: bool,
        logs: Path | None,
        named: bool = False,
    ) -> None:
        #: Called with the replica and the text of each line of standard error.
        self.listener: Callable[[int, bytes], None] = lambda _rank, _text: None
        self.output = OutputQueue()
        self._named = named
        self._shown, self._terminal, self._timestamps = shown, terminal, timestamps
        screen = LineWriter(self._put)
        self._screens = {"out": screen, "err": screen if self.output.shared else LineWriter(self._put)}
        self._live = terminal and os.isatty(OUT)
        self._unfinished = b""
        self._unfinished_source = _LAUNCHER
        self._logs = None if logs is None else Logs(logs, self.message)

    @property
    def needed(self) -> bool:
        """Whether a job without a reader of standard output is useless: its output goes to no log file."""
        return self._terminal and self._logs is None

    def open_logs(self, size: int, attempt: int) -> None:
        """Opens new log files, or continues them after a restart.

        Raises:
            JobStartError: a file cannot be written.
        """
        if self._logs is not None:
            self._logs.open(size, attempt)

    def line(self, rank: int, stream: str, text: bytes) -> None:
        """Shows a replica's line, or the last part of one; ``text`` has no newline."""
        self.finished(rank, stream)
        self.log(rank, stream, text)
        if stream == "err":
            self.listener(rank, text)
        if self._shows(rank):
            self._screens[stream].line((rank, stream), self._prefix_of(rank, stream), text)

    def part(self, rank: int, stream: str, text: bytes) -> None:
        """Shows the beginning or middle of a line that carriage returns will not overwrite."""
        self.finished(rank, stream)
        if self._logs is not None:
            self._logs.part((rank, stream), text)
        if self._shows(rank):
            self._screens[stream].part((rank, stream), self._prefix_of(rank, stream), text)

    def progress(self, rank: int, stream: str, text: bytes) -> None:
        """Shows the state of a progress bar, except on a terminal, where it is shown live."""
        self.log(rank, stream, text)
        if self._shows(rank) and not self._live:
            self._screens[stream].line((rank, stream), self._prefix_of(rank, stream), text)

    def unfinished(self, rank: int, stream: str, text: bytes) -> None:
        """Shows an unfinished line, such as a progress bar; on a terminal only."""
        if self._live and self._shows(rank):
            self._unfinished_source = (rank, stream)
            self._unfinished = self._prefix(rank) + text[:_WIDEST]
            if not self._screens["out"].open:
                self.output.put(OUT, _CLEAR + self._unfinished)

    def finished(self, rank: int, stream: str) -> None:
        """Clears an unfinished line, because its end is about to be shown."""
        if self._unfinished and self._unfinished_source == (rank, stream):
            self._unfinished = b""
            if not self._screens["out"].open:
                self.output.put(OUT, _CLEAR)

    def input_entered(self) -> None:
        """Call this when the user has entered a line: its echo has ended the current line of the terminal."""
        for stream, descriptor in (("out", OUT), ("err", ERR)):
            if os.isatty(descriptor):
                self._screens[stream].ended()

    def traceback(self, rank: int, lines: list[bytes]) -> None:
        """Shows a replica's traceback, even if its output is hidden."""
        for text in lines:
            self._screens["err"].line((rank, "err"), self._prefix(rank), text)

    def log(self, rank: int, stream: str, text: bytes) -> None:
        """Writes a line to the replica's log file only."""
        if self._logs is not None:
            self._logs.line((rank, stream), text)

    def message(self, text: str) -> None:
        """Shows a message of the launcher itself."""
        for line in text.splitlines():
            self._screens["err"].line(_LAUNCHER, b"distoptrun: ", line.encode(errors="replace"))

    def launcher_line(self, text: bytes) -> None:
        """Shows a line of the MPI launcher."""
        self._screens["err"].line(_LAUNCHER, b"mpiexec: ", text)

    def close(self) -> None:
        """Closes the log files."""
        if self._logs is not None:
            self._logs.close()

    def _shows(self, rank: int) -> bool:
        return self._terminal and (self._shown is None or rank in self._shown)

    def _prefix_of(self, rank: int, stream: str) -> bytes:
        return b"" if self._named and stream == "out" else self._prefix(rank)

    def _prefix(self, rank: int) -> bytes:
        if not self._timestamps:
            return b"[%d] " % rank
        now = time.time()
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        return f"{clock}.{int(now % 1 * 1000):03d} [{rank}] ".encode()

    def _put(self, stream: str, data: bytes) -> None:
        if self._unfinished and self._screens[stream] is self._screens["out"]:
            data = _CLEAR + data + (self._unfinished if data.endswith(b"\n") else b"")
        self.output.put(OUT if stream == "out" else ERR, data)
