"""One of several processes compiles a kernel; none waits for ever, or where there is nothing to wait for."""

import multiprocessing
import time

import pytest

from distopt.engine import compile_lock as module
from distopt.engine.compile_lock import compile_lock


def make(folder, starts, ended):
    """Compiles the kernel "k", if it is not there, as a process of a job does."""
    with compile_lock(folder, "k"):
        if not (folder / "loops.k-1.nbc").exists():
            starts.put(None)
            time.sleep(0.3)
            (folder / "loops.k-1.nbc").touch()
    ended.put(None)


def test_one_of_four_processes_compiles_and_leaves_no_lock(tmp_path):
    context = multiprocessing.get_context("fork")
    starts, ended = context.Queue(), context.Queue()
    processes = [context.Process(target=make, args=(tmp_path, starts, ended)) for _ in range(4)]
    for process in processes:
        process.start()
    for _ in processes:
        ended.get(timeout=20)
    starts.get(timeout=1)
    assert starts.empty()
    assert [file.name for file in tmp_path.iterdir()] == ["loops.k-1.nbc"]
    for process in processes:
        process.join()


def test_a_process_that_does_not_go_on_is_waited_for_only_so_long(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    with compile_lock(tmp_path, "k"), compile_lock(tmp_path, "k"):
        pass


@pytest.mark.parametrize("name", ["kernel", "not there"])
def test_where_nothing_is_compiled_or_locked_nobody_waits(tmp_path, name):
    (tmp_path / "loops.kernel-1.nbc").touch()
    folder = tmp_path if name == "kernel" else tmp_path / name
    with compile_lock(folder, name), compile_lock(folder, name):
        assert not list(tmp_path.glob("*.lock"))


def test_kernels_are_waited_for_one_by_one(tmp_path):
    start = time.monotonic()
    with compile_lock(tmp_path, "a"), compile_lock(tmp_path, "b"):
        assert {file.name for file in tmp_path.iterdir()} == {"a.lock", "b.lock"}
    assert time.monotonic() - start < module._PATIENCE
