"""What reaches a terminal, a pipe and a file of output that comes in pieces, fast, or too much of it."""

import os
import stat
import subprocess
import sys
import time
import tracemalloc

import pytest
from distopt_launch import stream as streams
from distopt_launch.display import Display
from distopt_launch.errors import JobStartError
from distopt_launch.stream import Stream


def stream(rank=0, kind="out", display=None, logs=None):
    display = display or Display(None, True, False, logs)
    return Stream(rank, kind, display, lambda rank, line: None)


def test_a_long_line_stays_one_line(capfd):
    text = b"".join(b"%09d " % number for number in range(300_000))
    line = stream()
    for at in range(0, len(text), 50_000):
        line.add(text[at : at + 50_000])
    line.add(b"\nnext\n")
    assert capfd.readouterr().out.encode() == b"[0] " + text + b"\n[0] next\n"


def test_a_long_line_is_broken_where_another_replica_writes(capfd):
    display = Display(None, True, False, None)
    long, other = stream(0, display=display), stream(1, display=display)
    long.add(b"x" * 600_000)
    other.add(b"between\n")
    long.add(b"y\nnext\n")
    assert capfd.readouterr().out.splitlines() == ["[0] " + "x" * 600_000, "[1] between", "[0] y", "[0] next"]


@pytest.mark.parametrize("piece", [b"x" * 65536, b"\r 12% of it" * 6000, b"12%\r" + b"x" * 65532])
def test_a_line_without_end_takes_linear_time_and_little_memory(capfd, tmp_path, piece):
    display = Display((), True, False, tmp_path)
    display.open_logs(1, 0)
    line = stream(display=display)
    tracemalloc.start()
    begin = time.monotonic()
    for _ in range(2500):  # 160 MB
        line.add(piece)
    line.add(b"\n")
    seconds, (_, peak) = time.monotonic() - begin, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    display.close()
    assert peak < 4 << 20
    assert seconds < 40  # it took 140 s where it was quadratic


def test_a_progress_bar_is_one_line_of_the_log_and_of_a_pipe(capfd, tmp_path):
    line = stream(logs=tmp_path, display=None)
    line._display.open_logs(1, 0)
    for percent in range(101):
        line.add(b"\r%3d%%" % percent)
    line.add(b"\nplain\r")
    line.add(b"\nlast")
    line.end()
    assert (tmp_path / "replica-0.log").read_text() == "100%\nplain\nlast\n"
    assert capfd.readouterr().out == "[0] 100%\n[0] plain\n[0] last\n"


def test_a_progress_bar_that_goes_on_is_noted_now_and_then(capfd, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "_PROGRESS", 0.05)
    line = stream(logs=tmp_path)
    line._display.open_logs(1, 0)
    line.add(b"\r 10%")
    line.add(b"\r 20%")
    assert line.due < float("inf")
    line.proceed()
    assert (tmp_path / "replica-0.log").read_text() == " 20%\n"
    line.add(b"\r 20%")
    line.proceed()  # nothing new
    line.add(b"\r100%\n")
    assert line.due == float("inf")
    assert capfd.readouterr().out == "[0]  20%\n[0] 100%\n"


def test_a_question_is_shown_before_its_answer(capfd):
    line = stream()
    line.add(b"no question: nobody can answer")
    assert line.due == float("inf")
    line.add(b"\n")
    line.interactive = True
    line.add(b"name? ")
    assert line.due < float("inf")
    line.proceed()
    assert capfd.readouterr().out == "[0] no question: nobody can answer\n[0] name? "
    line.add(b"hello\n")
    assert capfd.readouterr().out == "hello\n"


def test_a_question_that_came_before_anybody_could_answer_is_shown(capfd):
    line = stream()
    line.add(b"name? ")
    assert line.due == float("inf")
    line.may_prompt()
    assert line.due < float("inf")
    line.proceed()
    assert capfd.readouterr().out == "[0] name? "


WRITER = """
import os, sys, time
from distopt_launch.display import Display
from distopt_launch.stream import Stream
os.set_blocking(1, "blocking" in sys.argv)
display = Display(None, True, False, None)
line = Stream(0, "out", display, None)
for number in range(40_000):
    line.add(b"%d\\n" % number)
    if number == 1000:
        os.set_blocking(1, False)  # whoever shares the pipe may do that at any time
while display.output.pending and not display.output.gone:
    time.sleep(0.001)
    display.output.advance()
print("gone" if display.output.gone else "all", file=sys.stderr)
"""


@pytest.mark.parametrize("mode", ["blocking", "non-blocking"])
def test_nothing_is_lost_where_the_reader_is_slow(mode):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, mode], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    time.sleep(0.5)
    out, err = writer.communicate(timeout=60)
    assert err == b"all\n"
    assert out.splitlines() == [b"[0] %d" % number for number in range(40_000)]


def test_a_reader_that_is_gone_is_noticed():
    command = [sys.executable, "-c", WRITER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as writer:
        writer.stdout.read(1)
        writer.stdout.close()
        assert writer.stderr.read() == b"gone\n"
        assert writer.wait(timeout=60) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a system without /dev/full")
def test_a_full_disk_is_said_once():
    text = (
        "from distopt_launch.output_queue import OutputQueue as Q\nq = Q()\nfor _ in range(9): q.put(1, b'x')"
    )
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", text], stdout=full, stderr=subprocess.PIPE, timeout=60, check=True
        )
    assert done.stderr.decode().count("lines are lost: No space left on device") == 1


def test_folders_of_logs_are_private_and_those_there_stay_as_they_are(tmp_path):
    tmp_path.chmod(0o755)
    folder = tmp_path / "a" / "b"
    display = Display(None, False, False, folder)
    display.open_logs(1, 0)
    display.line(0, "out", b"text")
    display.close()
    assert (folder / "replica-0.log").read_text() == "text\n"
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path, folder.parent, folder)]
    assert modes == [0o755, 0o700, 0o700]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("link", "it is a symbolic link"),
        ("second name", "it has other names too"),
        ("pipe", "it is not a regular file"),
        ("another user's", "it is another user's"),
    ],
)
def test_a_planted_log_is_refused(tmp_path, kind, why):
    precious, planted = tmp_path / "precious", tmp_path / "logs" / "replica-0.log"
    precious.write_text("mine")
    planted.parent.mkdir()
    if kind == "link":
        planted.symlink_to(precious)
    elif kind == "second name":
        os.link(precious, planted)
    elif kind == "pipe":
        os.mkfifo(planted)
    elif os.geteuid() == 0:
        planted.touch(0o666)
        os.chown(planted, 12345, 12345)
    else:
        pytest.skip("takes the superuser, to make another user's file")
    display = Display(None, False, False, planted.parent)
    with pytest.raises(JobStartError, match=rf"cannot write .*replica-0\.log: {why}"):
        display.open_logs(1, 0)
    assert precious.read_text() == "mine"


def test_a_traceback_without_end_is_not_kept(capfd):
    held = []
    line = Stream(0, "err", Display((), False, False, None), lambda rank, text: held.append(text))
    line.add(streams.TRACEBACK_BEGINS + b"\n")
    for _ in range(100):
        line.add((b"x" * 99 + b"\n") * 1000)
    assert sum(map(len, held)) < 2 << 20
