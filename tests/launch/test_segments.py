"""What MPI libraries leave in shared memory when their processes are killed."""

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


def test_only_what_came_later_and_is_unused_goes(monkeypatch, tmp_path):
    monkeypatch.setattr(segments, "_FOLDER", tmp_path)
    monkeypatch.setattr(segments, "_YOUNG", 0.1)

    def make(name):
        path = tmp_path / name
        path.write_bytes(bytes(4096))
        return path

    old = make("mpich_shm_0_0")
    before = segments.present()
    left, foreign = make("mpich_shm_1_0"), make("somebody_elses")
    used = make("mpich_shm_2_0")
    monkeypatch.setattr(segments, "_used", lambda path: path == str(used))
    begin = time.monotonic()
    segments.remove_unused(before, [])
    assert time.monotonic() - begin >= 0.05  # it is young: somebody may be about to open it
    assert [path.exists() for path in (old, left, foreign, used)] == [True, False, True, True]


def test_processes_that_end_are_waited_for_and_others_are_not(monkeypatch, tmp_path):
    monkeypatch.setattr(segments, "_FOLDER", tmp_path)
    monkeypatch.setattr(segments, "_PATIENCE", 0.3)
    before = segments.present()
    begin = time.monotonic()
    segments.remove_unused(before, [os.getpid()])  # nothing new: no reason to wait
    assert time.monotonic() - begin < 0.2
    (tmp_path / "mpich_shm_1_0").touch()
    segments.remove_unused(before, [os.getpid()])  # this process goes on
    assert time.monotonic() - begin >= 0.3
    pid = os.fork()
    if pid == 0:
        signal.pause()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert not segments._memory_of(pid)
    assert segments._used("[stack]")
