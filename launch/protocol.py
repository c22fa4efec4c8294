"""The lines that replicas send to the launcher: events, and records of output."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Starts each record among the lines that an MPI launcher forwards, and each marker in a replica's stderr.
MARK = b"\x1e"
#: Markers around the traceback of an uncaught exception, which the launcher shows last.
TRACEBACK_BEGINS = MARK + b"distopt traceback" + MARK
TRACEBACK_ENDS = MARK + b"distopt end" + MARK

_KINDS = ("start", "done", "raised", "exit", "telemetry")
_RANK = re.compile(r"[0-9]{1,9}")
_PIECE = 3000  # bytes; so that a record is one atomic write to a pipe, which has at most 4096


@dataclass(frozen=True)
class Event:
    """One event of a replica.

    Attributes:
        kind: ``start`` (values: PIDs of the replica and of its supervisor), ``done`` (0; the program has
            finished), ``raised`` (exit code, exception name) or ``exit`` (status, negative for a signal;
            1 if the MPI launcher had asked it to end). ``telemetry`` (JSON: see `telemetry`).
        rank: the replica's process number.
        values: depend on the kind.
    """

    kind: str
    rank: int
    values: tuple[str, ...]


def encode(event: Event) -> bytes:
    """An event as one line."""
    return " ".join((event.kind, str(event.rank), *event.values)).encode() + b"\n"


def decode(line: bytes) -> Event | None:
    """The inverse of `encode`; None for anything else."""
    text = line.decode(errors="replace")
    fields = text.split(" ", 2) if text.startswith("telemetry ") else text.split()
    if len(fields) < 3 or fields[0] not in _KINDS or not _RANK.fullmatch(fields[1]):
        return None
    return Event(fields[0], int(fields[1]), tuple(fields[2:]))


def records(rank: int, stream: str, data: bytes) -> list[bytes]:
    """Splits bytes of a stream into records that are short enough for an atomic write.

    Each record holds a line or a part of one. A ``+`` after the stream means that the line continues.
    """
    found = []
    *whole, last = data.split(b"\n")
    for text, end in [*((line, b"") for line in whole), *([(last, b"+")] if last else [])]:
        pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)] or [b""]
        heads = [b"+"] * (len(pieces) - 1) + [end]
        for head, piece in zip(heads, pieces, strict=True):
            found.append(b"%s%d %s%s %s\n" % (MARK, rank, stream.encode(), head, piece))
    return found


def parse_record(line: bytes) -> tuple[int, str, bytes] | None:
    """Splits a record into rank, stream and bytes; None if the line is not a record.

    The stream is ``out``, ``err`` or ``events``, with ``+`` if the line continues.
    """
    if not line.startswith(MARK):
        return None
    rank, _, rest = line[1:].partition(b" ")
    stream, _, text = rest.partition(b" ")
    known = stream in (b"out", b"err", b"events", b"out+", b"err+", b"events+")
    number = rank.decode(errors="replace")
    return (int(number), stream.decode(), text) if _RANK.fullmatch(number) and known else None
