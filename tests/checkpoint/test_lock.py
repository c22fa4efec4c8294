"""One job at a time writes into a directory; who comes second is told at once, and a dead owner is none."""

import fcntl
import gc
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from distopt.checkpoint import CheckpointManager, lock
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.errors import ReplicaFailed
from distopt.launched import JobId, job_ids

#: A job that saves once, says so, and goes on until its standard input ends.
OTHER = """
import sys
from distopt.checkpoint import CheckpointManager
manager = CheckpointManager(sys.argv[1], mine={"epoch": 7})
manager.save(background=True)
manager.wait()
print("saved", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as job:
        assert job.stdout.readline() == "saved\n"
        yield job
        job.kill()


def test_the_second_job_is_refused_at_once_and_told_of_the_first(other, tmp_path):
    def program(call):
        manager = CheckpointManager(tmp_path, mine={})
        start = time.monotonic()
        with pytest.raises((RuntimeError, ReplicaFailed)) as caught:
            getattr(manager, call)()
        assert time.monotonic() - start < 10
        for word in (f"process {other.pid} on {os.uname().nodename}", "in use by another job", "remove /"):
            assert word in str(caught.value)
        return True

    for replicas in (1, 2):
        for call in ("save", "lock", "clear"):
            assert VirtualStrategy(replicas).run(program, args=(call,))
    mine = {}
    assert CheckpointManager(tmp_path, mine=mine).restore()  # others may restore from it
    assert mine == {"epoch": 7}
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-00000001", "checkpoints.lock"]


def test_the_lock_goes_with_the_job(other, tmp_path):
    other.stdin.close()
    assert other.wait(60) == 0
    assert os.listdir(tmp_path) == ["checkpoint-00000001"]


@pytest.mark.parametrize("waited_for", [True, False])
def test_a_killed_job_holds_nothing(other, tmp_path, waited_for):
    other.kill()
    if waited_for:
        other.wait()
    else:
        time.sleep(0.5)  # a zombie
    manager = CheckpointManager(tmp_path, mine={})
    assert manager.save().endswith("checkpoint-00000002")
    names = ["checkpoint-00000001", "checkpoint-00000002", "checkpoints.lock"]
    assert sorted(os.listdir(tmp_path)) == names


def test_managers_of_one_process_share_it_and_the_last_one_gives_it_back(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "run")
    one, two = CheckpointManager(tmp_path / "run", a={}), CheckpointManager(tmp_path / "link", b={})
    one.save()
    two.save()
    one.unlock()
    assert (tmp_path / "run" / lock.FILE).exists()
    del two
    assert not (tmp_path / "run" / lock.FILE).exists()
    one.save()
    one.clear()
    assert not (tmp_path / "run").exists()


def test_a_forked_child_saves_for_its_parent_and_takes_nothing_away(tmp_path):
    manager = CheckpointManager(tmp_path, mine={})
    manager.save()
    if (child := os.fork()) == 0:
        try:
            manager.save()
            del manager
            os._exit(0 if os.path.exists(tmp_path / lock.FILE) else 2)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(manager.checkpoints) == 2


def test_who_lost_the_lock_to_another_job_writes_no_more(tmp_path):
    manager = CheckpointManager(tmp_path, mine={})
    manager.save()
    os.unlink(tmp_path / lock.FILE)
    manager.save()  # nobody else has it
    put(tmp_path, elsewhere())
    with pytest.raises(RuntimeError, match="process 12345 on far-away"):
        manager.save()
    del manager
    assert (tmp_path / lock.FILE).exists()


def elsewhere(**changes):
    """The owner of a lock on another machine."""
    own = replace(lock._this_process(), host="far-away", boot="another", machine="", pid=12345, token="ab12")
    return replace(own, jobs=(), **changes)


def put(folder, owner):
    (folder / lock.FILE).write_text(json.dumps(asdict(owner)))


def saves(folder):
    try:
        CheckpointManager(folder, mine={}).save()
    except RuntimeError as error:
        return "remove" not in str(error)
    return True


SLURM, PBS = JobId("Slurm", "77", 0), JobId("PBS", "5.head", -1)


@pytest.mark.parametrize(
    ("owner", "environ", "free"),
    [
        ({}, {}, False),
        ({"jobs": (SLURM,)}, {"SLURM_JOB_ID": "77"}, False),  # another step of the job
        ({"jobs": (SLURM,)}, {"SLURM_JOB_ID": "77", "SLURM_RESTART_COUNT": "1"}, True),
        ({"jobs": (replace(SLURM, start=2),)}, {"SLURM_JOB_ID": "77", "SLURM_RESTART_COUNT": "1"}, False),
        ({"jobs": (SLURM,)}, {"SLURM_JOB_ID": "78", "SLURM_RESTART_COUNT": "1"}, False),
        ({"jobs": (PBS,)}, {"PBS_JOBID": "5.head"}, True),
        ({"jobs": (PBS,)}, {"PBS_JOBID": "6.head"}, False),
        (
            {"jobs": (JobId("distoptrun", "x", 0, False),)},
            {"DISTOPT_LAUNCH_JOB": "x", "DISTOPT_LAUNCH_RESTART": "1"},
            True,
        ),
    ],
)
def test_a_job_elsewhere_holds_it_until_it_is_started_again(tmp_path, monkeypatch, owner, environ, free):
    put(tmp_path, replace(elsewhere(), **owner))
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert saves(tmp_path) == free


def test_a_machine_that_was_started_anew_holds_nothing(tmp_path):
    own = lock._this_process()
    put(tmp_path, replace(elsewhere(), host=own.host, machine=own.machine))
    assert saves(tmp_path) == bool(own.machine)


def test_a_later_process_of_the_same_number_is_another_one(tmp_path):
    own = lock._this_process()
    put(tmp_path, replace(own, pid=os.getppid(), born=own.born + 1, token="ab12"))
    assert saves(tmp_path)


def test_in_another_container_of_the_machine_the_file_lock_tells(tmp_path):
    put(tmp_path, replace(lock._this_process(), space="pid:[1]", pid=1, token="ab12"))
    with open(tmp_path / lock.FILE, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not saves(tmp_path)
    assert saves(tmp_path)


@pytest.mark.parametrize("content", ["", "nonsense", "[]", '{"host": "x"}'])
def test_a_lock_that_says_nothing_is_left_to_people(tmp_path, content):
    (tmp_path / lock.FILE).write_text(content)
    with pytest.raises(RuntimeError, match="If no job uses the directory, remove this file"):
        CheckpointManager(tmp_path, mine={}).save()
    os.unlink(tmp_path / lock.FILE)
    os.mkfifo(tmp_path / lock.FILE)
    assert not saves(tmp_path)


def test_where_there_are_no_links(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    manager = CheckpointManager(tmp_path, mine={})
    manager.save()
    manager.save()
    assert not lock._is_free(str(tmp_path / lock.FILE))
    put(tmp_path, elsewhere())
    assert not saves(tmp_path)


def test_the_file_lock_lasts_as_long_as_the_lock(tmp_path):
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    manager = CheckpointManager(tmp_path, mine={})
    for _ in range(3):
        manager.save()
        assert not lock._is_free(str(tmp_path / lock.FILE))
        os.unlink(tmp_path / lock.FILE)
    manager.save()
    manager.unlock()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_fit_is_refused_before_it_begins(other, tmp_path):
    import numpy as np

    from distopt import keras

    model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
    model.compile("sgd", "mse")
    with pytest.raises(RuntimeError, match="in use by another job"):
        model.fit(np.ones((4, 2)), np.ones((4, 1)), callbacks=[keras.callbacks.BackupAndRestore(tmp_path)])
    assert get_replica_context() is not None


def test_the_jobs_of_the_environment():
    found = job_ids({"SLURM_JOB_ID": "3", "SLURM_RESTART_COUNT": "2", "PBS_JOBID": "", "LSB_JOBID": "8"})
    assert [(job.system, job.number, job.start) for job in found] == [("Slurm", "3", 2), ("LSF", "8", -1)]
