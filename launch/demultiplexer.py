"""What comes from the replicas and from the MPI launcher, sorted: output, news, and foreign words."""

from __future__ import annotations

from collections import deque

from .display import Display
from .job_state import JobState
from .line_buffer import LineBuffer
from .protocol import decode, parse_record
from .stream import Stream

#: A longer line of the MPI launcher is cut; longer news are none.
_LONGEST = 1 << 16
#: So many lines of the MPI launcher are kept.
_KEPT = 10_000


class Demultiplexer:
    """Sorts the bytes of all pipes of a job.

    Args:
        size: number of processes.
        display: where output goes.
        state: gets the news.

    Attributes:
        tracebacks: of replicas that an exception ended, to be shown at the end.
        words: the MPI launcher's own lines.
        foreign: those of them that have not been shown.
    """

    def __init__(self, size: int, display: Display, state: JobState) -> None:
        self._size, self._display, self._state = size, display, state
        self.tracebacks: dict[int, list[bytes]] = {}
        self.words: deque[bytes] = deque(maxlen=_KEPT)
        self.foreign: deque[bytes] = deque(maxlen=_KEPT)
        self._streams = {
            (rank, kind): Stream(rank, kind, display, self._hold)
            for rank in range(size)
            for kind in ("out", "err")
        }
        self._begun: set[Stream] = set()  # with a line that may have to be shown before its end
        self._events = LineBuffer()
        self._said = {"out": LineBuffer(), "err": LineBuffer()}
        self._remote_events: dict[int, LineBuffer] = {}

    def add(self, rank: int, kind: str, data: bytes) -> None:
        """Takes bytes of a replica's stream; of all replicas' news; or, with rank -1, of the MPI launcher."""
        if kind == "events":
            for line in _limited(self._events, data):
                self._take_event(line, here=True)
        elif rank >= 0:
            self._take_output(rank, kind, data)
        else:
            for line in _limited(self._said[kind], data):
                self._take_line(line)

    def set_interactive(self, interactive: bool) -> None:
        """Says whether replica 0 may wait for an answer; it may have asked before."""
        for kind in ("out", "err"):
            stream = self._streams[0, kind]
            if interactive and not stream.interactive:
                stream.may_ask()
                self._note_begun(stream)
            stream.interactive = interactive

    @property
    def due(self) -> float:
        """When `proceed` has something to do, on the monotonic clock; infinity for never."""
        return min((stream.due for stream in self._begun), default=float("inf"))

    def proceed(self, now: float) -> None:
        """Shows lines that have been left unfinished long enough."""
        for stream in [stream for stream in self._begun if stream.due <= now]:
            stream.proceed()
        self._begun = {stream for stream in self._begun if stream.due < float("inf")}

    def end(self) -> None:
        """Shows what is left without a line end."""
        for stream in self._streams.values():
            stream.end()
        for lines in self._said.values():
            for line in lines.rest():
                self._take_line(line)

    def _take_output(self, rank: int, kind: str, data: bytes) -> None:
        stream = self._streams[rank, kind]
        stream.add(data)
        self._note_begun(stream)

    def _note_begun(self, stream: Stream) -> None:
        if stream.due < float("inf"):
            self._begun.add(stream)

    def _take_event(self, line: bytes, here: bool) -> None:
        if event := decode(line):
            self._state.record(event, here)

    def _take_line(self, line: bytes) -> None:
        """A line from the MPI launcher: a record of a replica elsewhere, or words of its own."""
        record = parse_record(line)
        if record is None or not record[0] < self._size:
            self._take_words(line)
            return
        rank, kind, text = record
        data = text if kind.endswith("+") else text + b"\n"
        if kind.startswith("events"):
            for event in _limited(self._remote_events.setdefault(rank, LineBuffer()), data):
                self._take_event(event, here=False)
        else:
            self._take_output(rank, kind.rstrip("+"), data)

    def _take_words(self, line: bytes) -> None:
        # Until all have started they may be what the user waits for; later, mostly noise about an end.
        if len(self._state.started) < self._size and not self._state.failures:
            self._display.foreign(line)
        else:
            self.foreign.append(line)
        self.words.append(line)

    def _hold(self, rank: int, line: bytes) -> None:
        self.tracebacks.setdefault(rank, []).append(line)


def _limited(lines: LineBuffer, data: bytes) -> list[bytes]:
    """The lines that ``data`` completes; an endless one is cut."""
    whole = lines.add(data)
    if lines.size > _LONGEST:
        whole.append(lines.take())
    return whole
