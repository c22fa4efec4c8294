"""A save that fails hurts neither the program nor the checkpoints before; signals ask for a last one."""

import gc
import os
import resource
import signal
import sys

import numpy as np
import pytest

from distopt import Variable
from distopt.checkpoint import CheckpointManager, files
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.errors import MissingExtra, ReplicaFailed


def room(nbytes):
    """From now on no file may become longer: what a full disk does, for this process alone."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if nbytes is None else nbytes, hard))


@pytest.mark.parametrize("background", [False, True])
def test_a_full_disk(replicas, tmp_path, background):
    if replicas.kind == "mpi":
        pytest.skip("limits of one process")

    def program():
        w = Variable(np.zeros(50_000), name="w")
        mine = {"epoch": 1}
        manager = CheckpointManager(tmp_path, variables=[w], mine=mine)
        good = manager.save()
        mine["epoch"] = 2
        get_replica_context().comm.barrier()
        room(10_000)
        try:
            with pytest.raises((OSError, ReplicaFailed)) as caught:
                _ = manager.save(background), manager.wait()
        finally:
            get_replica_context().comm.barrier()
            room(None)
        text = str(caught.value)
        assert "could not be written: File too large. Nothing else is affected" in text
        assert f"the newest one is {good}" in text
        assert manager.checkpoints == [good]
        assert manager.restore()
        assert mine == {"epoch": 1}
        mine["epoch"] = 3  # and it can go on
        assert manager.save() == good.replace("1", "2") or manager.latest != good
        return [name for name in os.listdir(tmp_path) if name != "checkpoints.lock"]

    for names in replicas.run(program):
        assert sorted(names) == ["checkpoint-00000001", "checkpoint-00000002"]


def test_a_directory_that_cannot_be_written(replicas, tmp_path):
    (tmp_path / "file").write_text("in its place")

    def program():
        w = Variable([1.0], name="w")
        manager = CheckpointManager(tmp_path / "file", variables=[w])
        with pytest.raises((OSError, ReplicaFailed), match="could not be written: File exists"):
            manager.save()
        with pytest.raises((OSError, ReplicaFailed), match="Not a directory"):
            manager.restore()
        return w.numpy().tolist()

    assert replicas.run(program) == [[1.0]] * replicas.size


@pytest.mark.parametrize("step", ["write", "fsync", "replace", "rename"])
def test_whatever_step_fails_on_whatever_replica(tmp_path, monkeypatch, step):
    def program():
        mine = {"epoch": 1, "own": get_replica_context().replica_id_in_sync_group}
        manager = CheckpointManager(tmp_path, mine=mine)
        good = manager.save()
        with pytest.raises((OSError, ReplicaFailed), match="Input/output error"):
            manager.save()
        assert manager.checkpoints == [good]
        return manager.save()

    calls = {"left": None}
    if step == "write":
        real = files.write_file

        def write_file(path, data):
            if "checkpoint-00000002" in path and path.endswith("replica-00001.safetensors") and once(calls):
                raise OSError(5, "Input/output error", path)
            return real(path, data)

        monkeypatch.setattr(files, "write_file", write_file)
    else:
        real = getattr(os, step)

        def fails(first, *rest):
            if at(first) and once(calls):
                raise OSError(5, "Input/output error")
            return real(first, *rest)

        monkeypatch.setattr(os, step, fails)
    VirtualStrategy(2).run(program)
    gc.collect()  # the errors' tracebacks held on to the managers, and these to their lock
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-00000001", "checkpoint-00000002"]


def at(target):
    path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else str(target)
    return "checkpoint-00000002.part" in path


def once(calls):
    first, calls["left"] = calls["left"] is None, 0
    return first


def test_a_failed_background_save_is_raised_by_the_next(tmp_path, monkeypatch):
    mine = {"epoch": 1}
    manager = CheckpointManager(tmp_path, mine=mine)
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    manager.save(background=True)
    assert isinstance(manager._savings[0].written(), OSError)  # the thread has come that far
    monkeypatch.undo()
    with pytest.raises(OSError, match="No space left") as caught:
        manager.save()
    assert caught.value.errno == 28
    assert manager.save().endswith("checkpoint-00000001")


@pytest.fixture
def quiet_signals():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_signal_makes_a_last_checkpoint(replicas, tmp_path, quiet_signals):
    def program():
        mine = {"step": 0}
        manager = CheckpointManager(tmp_path, mine=mine)
        manager.on_preemption()
        rank = get_replica_context().replica_id_in_sync_group

        def train():
            for step in range(100):
                mine["step"] = step
                if step == 7 and rank == 0:
                    signal.raise_signal(signal.SIGTERM)
                manager.step()

        with pytest.raises(SystemExit) as caught:
            train()
        mine["step"] = -1
        manager.restore()
        manager.step()  # the wish has been fulfilled
        return caught.value.code, mine["step"]

    assert replicas.run(program) == [(143, 7)] * replicas.size


def test_without_safetensors(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingExtra, match=r"pip install safetensors$"):
        CheckpointManager(tmp_path, mine={})
