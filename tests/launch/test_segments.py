"""What MPI libraries leave in shared memory when their processes are killed."""

import mmap
import os
import signal
import time

import pytest
from distopt_launch import segments

TEXT = """
import re
names = set(re.findall(r"/dev/shm/(?:mpich_shm|Intel_MPI)_\\w+", open("/proc/self/maps").read()))
print(*names)
world.barrier()
time.sleep(0.2)
if rank == 1:
    os.kill(os.getpid(), 9)
world.barrier()
"""


@pytest.mark.launches
@pytest.mark.timeout(120)
def test_nothing_is_left_of_a_killed_job(launch):
    pytest.importorskip("mpi4py")
    done = launch(TEXT, "-n", "2")
    assert done.code == 137, done.err
    names = {word for line in done.lines for word in line.split()[1:]}
    assert not [name for name in names if os.path.exists(name)]


@pytest.fixture
def shared(monkeypatch, tmp_path):
    """A folder in the place of /dev/shm, and a function that makes files in it."""
    monkeypatch.setattr(segments, "_FOLDER", tmp_path)

    def make(name, age=60.0):
        path = tmp_path / name
        path.write_bytes(bytes(4096))
        age_of[name] = age
        return path

    age_of = {}
    real = segments._age
    monkeypatch.setattr(segments, "_age", lambda name: None if real(name) is None else age_of.get(name, 0.0))
    return make


def test_only_what_is_unused_and_old_goes(shared):
    left, young, foreign, used = (
        shared("mpich_shm_0_0"),
        shared("mpich_shm_1_0", age=0.5),
        shared("somebody_elses"),
        shared("mpich_shm_2_0"),
    )
    with used.open("rb") as file, mmap.mmap(file.fileno(), 4096, access=mmap.ACCESS_READ):
        segments.remove_unused()
    assert [path.exists() for path in (left, young, foreign, used)] == [False, True, True, True]


def test_the_jobs_own_are_waited_for_together(shared):
    shared("mpich_shm_0_0", age=0.0)
    before = segments.present()
    for number in range(20):
        shared(f"mpich_shm_new{number}_0", age=0.7)
    begin = time.monotonic()
    segments.remove_after(before, [])
    assert 0.2 < time.monotonic() - begin < 1.5


def test_links_and_files_of_two_names_are_let_alone(shared, tmp_path):
    growing = tmp_path / "growing"
    growing.write_bytes(b"mine")
    before = segments.present()
    for number in range(20):
        (tmp_path / f"mpich_shm_evil{number}").symlink_to(growing)
    os.link(growing, tmp_path / "mpich_shm_second")
    (tmp_path / "mpich_shm_folder").mkdir()
    assert segments.present() == before
    begin = time.monotonic()
    segments.remove_after(before, [])
    assert time.monotonic() - begin < 0.5
    assert growing.read_bytes() == b"mine"
    assert len(list(tmp_path.glob("mpich_shm_*"))) == 22


@pytest.mark.skipif(os.geteuid() != 0, reason="takes the superuser, to make another user's file")
def test_another_users_are_let_alone(shared):
    path = shared("mpich_shm_0_0")
    os.chown(path, 12345, 12345)
    assert not segments.present()
    segments.remove_unused()
    assert path.exists()


def test_processes_that_end_are_waited_for_and_others_are_not(monkeypatch, shared):
    monkeypatch.setattr(segments, "_PATIENCE", 0.3)
    before = segments.present()
    begin = time.monotonic()
    segments.remove_after(before, [os.getpid()])  # nothing new: no reason to wait
    assert time.monotonic() - begin < 0.2
    shared("mpich_shm_1_0")
    segments.remove_after(before, [os.getpid()])  # this process goes on
    assert time.monotonic() - begin >= 0.3
    pid = os.fork()
    if pid == 0:
        signal.pause()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert not segments._memory_map(pid)
