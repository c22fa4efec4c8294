"""Lines, records, and who failed first."""

import pytest
from distopt_launch.display import Display
from distopt_launch.job_state import JobState
from distopt_launch.line_buffer import LineBuffer
from distopt_launch.protocol import (
    TRACEBACK_BEGINS,
    TRACEBACK_ENDS,
    Event,
    decode,
    encode,
    parse_record,
    records,
)
from distopt_launch.stream import Stream
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.binary(max_size=20)))
def test_lines_are_the_same_however_they_come(pieces):
    lines = LineBuffer()
    found = [line for piece in pieces for line in lines.add(piece)]
    assert b"\n".join([*found, lines.open]) == b"".join(pieces)


@given(st.binary(max_size=10_000), st.integers(0, 10**6))
def test_records_carry_any_bytes_in_atomic_pieces(data, rank):
    found = b""
    for piece in records(rank, "err", data):
        assert len(piece) <= 4096
        assert piece.count(b"\n") == 1
        number, stream, part = parse_record(piece[:-1])
        assert number == rank
        assert stream in ("err", "err+")
        found += part + (b"\n" if stream == "err" else b"")
    assert found == data


@given(st.binary(max_size=40))
def test_foreign_lines_are_no_records(line):
    record = parse_record(line)
    assert record is None or line.startswith(b"\x1e")
    event = decode(line)
    assert event is None or event.kind in ("start", "done", "raised", "exit")


def test_news_travel():
    event = Event("raised", 3, ("1", "ValueError"))
    assert decode(encode(event)) == event


def state_after(*events):
    found = JobState(4)
    for kind, rank, *values in events:
        found.record(Event(kind, rank, tuple(map(str, values))), here=True)
    return found


@pytest.mark.parametrize(
    ("events", "rank", "code", "how"),
    [
        ([("raised", 2, 1, "ValueError"), ("exit", 2, 1), ("exit", 0, 1)], 2, 1, "raised ValueError"),
        (
            [("raised", 1, 1, "distopt.errors.ReplicaFailed"), ("raised", 2, 1, "ValueError")],
            2,
            1,
            "raised ValueError",
        ),
        (
            [("raised", 1, 1, "mpi4py.MPI.Exception"), ("exit", 3, -9)],
            3,
            137,
            "was killed by signal 9 (SIGKILL)",
        ),
        ([("raised", 1, 1, "mpi4py.MPI.Exception")], 1, 1, "raised Exception"),
        ([("exit", 1, -15, 1), ("exit", 3, -9)], 3, 137, "was killed by signal 9 (SIGKILL)"),
        ([("exit", 1, -15, 1), ("exit", 3, 0)], 1, 143, "was killed by signal 15 (SIGTERM)"),
        ([("raised", 0, 3, "SystemExit"), ("exit", 0, 3)], 0, 3, "ended with exit code 3"),
        ([("exit", 9, 1), ("exit", 0, 7)], 0, 7, "ended with exit code 7"),
    ],
)
def test_the_first_failure(events, rank, code, how):
    first = state_after(*events).first
    assert (first.rank, first.code, first.how) == (rank, code, how)


def test_pids_of_other_machines_are_not_kept():
    found = JobState(2)
    found.record(Event("start", 0, ("10", "11")), here=True)
    found.record(Event("start", 1, ("10", "11")), here=False)
    assert found.started == {0, 1}
    assert found.running == {0: (10, 11)}
    found.record(Event("exit", 0, ("0",)), here=True)
    assert found.running == {}
    assert found.first is None


def test_a_traceback_that_ends_the_replica_is_held_back(capfd):
    held = []
    stream = Stream(1, "err", Display(None, True, False, None), lambda rank, line: held.append((rank, line)))
    stream.add(b"Traceback caught\nhalf" + TRACEBACK_BEGINS + b"\nTraceback\n  File\n")
    stream.add(
        TRACEBACK_ENDS + b"\nafter\nAbort(1) on node 0 (rank 0 in comm 0): application called MPI_Abort(x)\n"
    )
    stream.add(b"last")
    stream.end()
    assert held == [(1, b"Traceback"), (1, b"  File")]
    assert capfd.readouterr().err.splitlines() == [
        "[1] Traceback caught",
        "[1] half",
        "[1] after",
        "[1] last",
    ]


def test_overwritten_lines_show_their_last_state(capfd):
    stream = Stream(0, "out", Display(None, True, False, None), lambda rank, line: None)
    stream.add(b"1/3\r2/3\r")
    stream.add(b"3/3\nplain\r\n")
    assert capfd.readouterr().out == "[0] 3/3\n[0] plain\n"


@pytest.mark.parametrize(
    ("events", "first"),
    [
        ([("exit", 1, 0)], 1),  # and the others were killed, with their supervisors
        ([("exit", 1, 0), ("raised", 0, 1, "mpi4py.MPI.Exception")], 1),
        ([("exit", 1, 0), ("exit", 0, -15, 1)], 1),
        ([("exit", 1, 0), ("raised", 0, 1, "ValueError")], 0),
        ([("done", 1, 0), ("exit", 1, 0), ("raised", 0, 1, "mpi4py.MPI.Exception")], 0),
        ([("exit", 1, 0), *((word, rank, 0) for rank in (0, 2, 3) for word in ("done", "exit"))], 1),
        ([("exit", rank, 0) for rank in range(4)], None),
        ([("done", rank, 0) for rank in range(4)], None),
    ],
)
def test_who_left_the_others(events, first):
    found = state_after(*(("start", rank, 10 + rank, 20 + rank) for rank in range(4)), *events)
    found.conclude()
    assert (found.first and found.first.rank) == first
    if first == 1:
        assert found.first.code == 1


def test_who_was_killed_after_the_end_of_the_program():
    ends = [("done", rank, 0) for rank in range(4)]
    assert state_after(*ends, ("exit", 1, 0)).cut_short == [0, 2, 3]
    assert state_after(*ends[1:], ("exit", 1, 0)).cut_short == []
    assert state_after(*ends, ("exit", 1, 0), ("exit", 2, -11)).cut_short == []
    assert state_after(*ends).cut_short == []
