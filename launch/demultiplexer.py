"""Demultiplexer: separates output and events of the replicas, and the MPI launcher's own lines."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .display import Display
from .job_state import JobState
from .line_buffer import LineBuffer
from .protocol import Event, decode, parse_record
from .stream import Stream

#: The longest line in bytes. A longer line of the MPI launcher is cut; a longer event is invalid.
_LONGEST = 1 << 16
#: How many lines of the MPI launcher are kept.
_KEPT = 10_000


class Demultiplexer:
    """Takes the bytes from all pipes of a job, and passes them on.

    Args:
        size: the number of processes.
        display: shows the output.
        state: records the events.
        take: called with each telemetry event.

    Attributes:
        tracebacks: the lines of the tracebacks of uncaught exceptions by replica, to be shown at the end.
        launcher_lines: the MPI launcher's own lines.
        hidden_lines: those of its lines that have not been shown.
    """

    def __init__(self, size: int, display: Display, state: JobState, take: Callable[[Event], None]) -> None:
        self._size, self._display, self._state, self._take = size, display, state, take
        self.tracebacks: dict[int, list[bytes]] = {}
        self.launcher_lines: deque[bytes] = deque(maxlen=_KEPT)
        self.hidden_lines: deque[bytes] = deque(maxlen=_KEPT)
        self._streams = {
            (rank, kind): Stream(rank, kind, display, self._keep_traceback)
            for rank in range(size)
            for kind in ("out", "err")
        }
        #: Streams with a line that must be shown after a time even if it has not ended.
        self._unfinished: set[Stream] = set()
        self._events = LineBuffer()
        self._launcher_output = {"out": LineBuffer(), "err": LineBuffer()}
        self._remote_events: dict[int, LineBuffer] = {}

    def add(self, rank: int, kind: str, data: bytes) -> None:
        """Takes bytes from a pipe.

        Args:
            rank: the replica; -1 for the MPI launcher and for events.
            kind: ``out``, ``err`` or ``events``.
            data: the bytes.
        """
        if kind == "events":
            for line in _limited(self._events, data):
                self._take_event(line, here=True)
        elif rank >= 0:
            self._take_output(rank, kind, data)
        else:
            for line in _limited(self._launcher_output[kind], data):
                self._take_line(line)

    def set_interactive(self, interactive: bool) -> None:
        """Sets whether replica 0 may be waiting for input, so that its unfinished lines may be prompts."""
        for kind in ("out", "err"):
            stream = self._streams[0, kind]
            if interactive and not stream.interactive:
                stream.may_prompt()
                self._note_unfinished(stream)
            stream.interactive = interactive

    @property
    def due(self) -> float:
        """The time at which to call `proceed` (`time.monotonic`); infinity for never."""
        return min((stream.due for stream in self._unfinished), default=float("inf"))

    def proceed(self, now: float) -> None:
        """Shows lines that have been unfinished for long enough."""
        for stream in [stream for stream in self._unfinished if stream.due <= now]:
            stream.proceed()
        self._unfinished = {stream for stream in self._unfinished if stream.due < float("inf")}

    def end(self) -> None:
        """At the end of the job: shows lines without a newline."""
        for stream in self._streams.values():
            stream.end()
        for lines in self._launcher_output.values():
            for line in lines.rest():
                self._take_line(line)

    def _take_output(self, rank: int, kind: str, data: bytes) -> None:
        stream = self._streams[rank, kind]
        stream.add(data)
        self._note_unfinished(stream)

    def _note_unfinished(self, stream: Stream) -> None:
        if stream.due < float("inf"):
            self._unfinished.add(stream)

    def _take_event(self, line: bytes, here: bool) -> None:
        event = decode(line)
        if event is None:
            return
        if event.kind == "telemetry":
            if event.rank < self._size:
                self._take(event)
        else:
            self._state.record(event, here)

    def _take_line(self, line: bytes) -> None:
        """A line from the MPI launcher: a record of a replica on another machine, or a line of its own."""
        record = parse_record(line)
        if record is None or not record[0] < self._size:
            self._take_launcher_line(line)
            return
        rank, kind, text = record
        data = text if kind.endswith("+") else text + b"\n"
        if kind.startswith("events"):
            for event in _limited(self._remote_events.setdefault(rank, LineBuffer()), data):
                self._take_event(event, here=False)
        else:
            self._take_output(rank, kind.rstrip("+"), data)

    def _take_launcher_line(self, line: bytes) -> None:
        # Until all replicas have started, lines may explain why they do not start. Later ones are kept for a
        # job whose failure nothing else explains.
        if len(self._state.started) < self._size and not self._state.failures:
            self._display.launcher_line(line)
        else:
            self.hidden_lines.append(line)
        self.launcher_lines.append(line)

    def _keep_traceback(self, rank: int, line: bytes) -> None:
        self.tracebacks.setdefault(rank, []).append(line)


def _limited(lines: LineBuffer, data: bytes) -> list[bytes]:
    """The lines that ``data`` completes; an overlong one is cut."""
    whole = lines.add(data)
    if lines.size > _LONGEST:
        whole.append(lines.take())
    return whole
