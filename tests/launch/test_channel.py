"""The folder of pipes: whose it has to be, what it may hold, and what is removed after a kill."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time

import pytest
from distopt_launch import leftovers
from distopt_launch.job_state import JobState
from distopt_launch.pipes import Pipes, open_stdin, open_writers
from distopt_launch.protocol import Event, decode, parse_record
from distopt_launch.shutdown import Shutdown, ShutdownReason


@pytest.fixture
def pipes(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = Pipes(2)
    yield made
    made.close()


def close(*descriptors):
    for descriptor in descriptors:
        os.close(descriptor)


def test_what_is_written_arrives(pipes):
    ends = open_writers(str(pipes.folder), 1)
    os.write(ends[0], b"words")
    (descriptor,) = (number for number, label in pipes.readers.items() if label == (1, "out"))
    assert os.read(descriptor, 100) == b"words"
    close(*ends)


def test_events_arrive_also_after_all_writers_were_gone(pipes):
    (events,) = (number for number, label in pipes.readers.items() if label == (-1, "events"))
    close(*open_writers(str(pipes.folder), 0))
    with pytest.raises(BlockingIOError):  # no end-of-file
        os.read(events, 100)
    ends = open_writers(str(pipes.folder), 1)
    os.write(ends[2], b"start\n")
    assert os.read(events, 100) == b"start\n"
    close(*ends)


def test_replica_0_reads_the_input_and_others_an_empty_one(pipes):
    first, second = open_stdin(str(pipes.folder), 0), open_stdin(str(pipes.folder), 1)
    writer = pipes.input()
    os.write(writer, b"input")
    assert os.read(first, 100) == b"input"
    close(writer)
    assert os.read(first, 100) == b""
    assert os.read(second, 100) == b""
    close(first, second)


def planted(pipes, tmp_path, kind):
    """Makes of the folder what somebody else could have put in its place."""
    folder, target = pipes.folder, tmp_path / "precious"
    target.write_text("mine")
    output = folder / "1.out"
    if kind == "open to others":
        folder.chmod(0o770)
    elif kind == "a link":
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    elif kind == "a file in it is a link":
        output.unlink()
        output.symlink_to(target)
    elif kind == "a file in it is a link to a pipe":
        output.rename(tmp_path / "pipe")
        output.symlink_to(tmp_path / "pipe")
    elif kind == "a file in it is plain":
        output.unlink()
        output.write_text("mine")
    elif kind == "the machine is a link":
        (folder / "machine").rename(tmp_path / "machine")
        (folder / "machine").symlink_to(tmp_path / "machine")
    elif kind == "another machine":
        (folder / "machine").write_text("elsewhere")
    elif os.geteuid() != 0:
        pytest.skip("takes the superuser, to make another user's file")
    else:
        os.chown(output if kind == "another user's file" else folder, 12345, 12345)
    return target


@pytest.mark.parametrize(
    "kind",
    [
        "open to others",
        "a link",
        "a file in it is a link",
        "a file in it is a link to a pipe",
        "a file in it is plain",
        "the machine is a link",
        "another machine",
        "another user's file",
        "another user's",
    ],
)
def test_a_folder_that_is_not_the_launchers_is_not_used(pipes, tmp_path, kind):
    before = len(os.listdir("/proc/self/fd"))
    target = planted(pipes, tmp_path, kind)
    assert open_writers(str(pipes.folder), 1) is None
    assert target.read_text() == "mine"
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "line",
    [
        b"start " + b"9" * 5000 + b" 10",
        b"start 0",
        "start ² 10 11".encode(),
        "start ٣ 10 11".encode(),
        b"start -1 10 11",
    ],
)
def test_broken_news_are_none(line):
    assert decode(line) is None


def test_broken_records_are_none():
    assert parse_record(b"\x1e" + b"9" * 5000 + b" out text") is None
    assert parse_record("\x1e² out text".encode()) is None


@pytest.mark.parametrize(
    "values",
    [
        ("-1", "11"),
        ("0", "11"),
        ("1", "11"),
        ("10", "-1"),
        ("10", "0"),
        ("9" * 5000, "11"),
        ("10", "9" * 5000),
        ("²", "11"),
        (str(os.getpid()), "11"),
        (str(os.getpgrp()), "11"),
        ("9999999999", "11"),
        ("10", "4194305"),
    ],
)
def test_numbers_that_would_signal_others_are_not_kept(values):
    found = JobState(1)
    found.record(Event("start", 0, values), here=True)
    assert found.pids == {}


@pytest.mark.parametrize("status", ["256", "512", "-65", "9999999999"])
def test_what_is_no_exit_code_is_left_out(status):
    found = JobState(1)
    for kind in ("start", "raised", "exit"):
        found.record(Event(kind, 0, ("10", "11") if kind == "start" else (status, "Error")), here=True)
    found.record(Event("raised", 0, ("0", "Error")), here=True)
    assert (found.failures, found.ended, found.early) == ([], {}, [])
    assert found.vanished == [0]  # which is a failure


def test_a_process_of_another_user_is_signalled_in_vain(monkeypatch):
    def refuse(_pid, _number):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    found = JobState(1)
    found.record(Event("start", 0, ("4194304", "4194304")), here=True)
    with subprocess.Popen(["sleep", "30"], start_new_session=True) as process:
        shutdown = Shutdown(process, found)
        shutdown.request(ShutdownReason("terminate", signal.SIGTERM, 0.0))
        assert process.wait(10) == -signal.SIGTERM


def test_repeated_news_change_nothing():
    found = JobState(1)
    for pid in (10, 20):
        found.record(Event("start", 0, (str(pid), "11")), here=True)
    for number in range(1000):
        found.record(Event("raised", 0, ("1", f"Error{number}" * 1000)), here=True)
    assert found.pids == {0: (10, 11)}
    assert len(found.failures) == 1
    assert len(found.failures[0].name) <= 200


def left_behind(tmp_path, seconds=0.0):
    """A folder whose launcher was killed."""
    text = (
        "import os, tempfile\nfrom distopt_launch.pipes import Pipes\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\nprint(Pipes(2).folder)\nos._exit(0)"
    )
    command = [sys.executable, "-u", "-c", text]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_folders_of_killed_launchers_go_and_others_stay(pipes, tmp_path):
    dead, elsewhere, linked = (left_behind(tmp_path) for _ in range(3))
    with open(os.path.join(elsewhere, "machine"), "w") as file:
        file.write("another machine, with the same temporary folder")
    os.rename(linked, tmp_path / "target")
    os.symlink(tmp_path / "target", linked)
    (tmp_path / "distoptrun-new").mkdir(mode=0o700)
    leftovers.remove()
    assert not os.path.exists(dead)
    assert os.path.exists(elsewhere)
    assert os.path.islink(linked)
    assert len(os.listdir(tmp_path / "target")) == 7
    assert (tmp_path / "distoptrun-new").exists()  # somebody is making it
    assert pipes.folder.exists()  # this process lives, and so does its lock
    os.utime(tmp_path / "distoptrun-new", (0, 0))
    leftovers.remove()
    assert not (tmp_path / "distoptrun-new").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="takes the superuser, to make another user's folder")
def test_another_users_folder_stays(pipes, tmp_path):
    other = left_behind(tmp_path)
    os.chown(other, 12345, 12345)
    leftovers.remove()
    assert os.path.exists(other)


def test_the_topologies_of_dead_process_managers_go(monkeypatch, tmp_path):
    monkeypatch.setattr(leftovers, "_TEMPORARY", tmp_path)
    monkeypatch.setattr(leftovers, "_YOUNG", 0.0)
    (tmp_path / "target").touch()
    first, link, foreign = (
        tmp_path / name for name in ("hydra_hwloc_xmlfile_aB3dE6", "hydra_hwloc_xmlfile_linked", "hydra_x")
    )
    first.touch()
    link.symlink_to(tmp_path / "target")
    foreign.touch()
    monkeypatch.setattr(leftovers, "_oldest_manager", lambda: time.time() - 60)
    leftovers.remove()
    assert first.exists()  # a manager that has been running for a minute may have made it
    monkeypatch.setattr(leftovers, "_oldest_manager", time.time)
    time.sleep(0.02)
    leftovers.remove()
    assert [first.exists(), link.is_symlink(), foreign.exists()] == [False, True, True]


def test_a_running_process_manager_is_found(tmp_path):
    program = tmp_path / "hydra_pmi_proxy"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "30"]) as process:
        time.sleep(0.3)
        assert leftovers._oldest_manager() < time.time() - 0.1
        process.kill()


def test_a_folder_that_others_exchange_while_it_is_filled(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    private, moved, make = tmp_path / "private", tmp_path / "moved", os.mkfifo
    private.write_text("private")

    def exchange(name, *args, **kwargs):
        if not moved.exists():
            (folder,) = tmp_path.glob("distoptrun-*")
            folder.rename(moved)
            folder.mkdir()
            for planted in ("0.out", "0.err", "events", "0.in"):
                (folder / planted).symlink_to(private)
        make(name, *args, **kwargs)

    monkeypatch.setattr(os, "mkfifo", exchange)
    made = Pipes(1)
    assert set(os.listdir(moved)) == {"machine", "0.out", "0.err", "events", "0.in"}
    assert all(stat.S_ISFIFO(os.fstat(descriptor).st_mode) for descriptor in made.readers)
    made.close()
    assert private.read_text() == "private"


def test_the_folder_is_private(pipes):
    assert stat.S_IMODE(pipes.folder.stat().st_mode) == 0o700


def test_replica_0_finds_no_end_of_its_input_before_the_launcher_has_begun_with_it():
    made = Pipes(1)
    try:
        reader = os.open(made.folder / "0.in", os.O_RDONLY | os.O_NONBLOCK)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
        writer = made.input()
        os.write(writer, b"you")
        assert os.read(reader, 10) == b"you"
        os.close(writer)
        assert os.read(reader, 10) == b""
        os.close(reader)
    finally:
        made.close()
