"""Compression in whole trainings: restarts, other numbers of nodes, threads and processes, frameworks."""

import os
import subprocess
import sys
from pathlib import Path

import compressed_training
import numpy as np
import pytest
from compressed_training import MAKERS, digest, steps, training, waiting
from replicated import on_replicas, rank

from distopt.checkpoint import CheckpointManager
from distopt.distribute import get_replica_context
from distopt.errors import ReplicaFailed, ReplicaMismatch

SCRIPT = Path(compressed_training.__file__)
KEEPING = pytest.mark.parametrize("name", ["power_sgd", pytest.param("top_k", marks=pytest.mark.slow)])
WITH_STATE = pytest.mark.parametrize(
    "name", ["power_sgd", *(pytest.param(name, marks=pytest.mark.slow) for name in ("top_k", "signum"))]
)


@pytest.fixture
def pretend(monkeypatch):
    return lambda nodes: monkeypatch.setenv("DISTOPT_NODES", str(nodes))


def continued(name, folder, count):
    """Goes on from a checkpoint, if there is one: values, what waits at first, and the digest at the end."""
    variables, optimizer = training(name)
    manager = CheckpointManager(folder, variables=variables, optimizer=optimizer)
    manager.restore()
    before, values = waiting(optimizer), [v.numpy() for v in variables]
    steps(variables, optimizer, int(optimizer.iterations), count)
    manager.save()
    return values, before, digest(variables, optimizer), waiting(optimizer)


@WITH_STATE
def test_a_restart_has_the_same_bits(pretend, name, tmp_path):
    pretend(2)

    def whole():
        made = training(name)
        steps(*made, 0, 5)
        return digest(*made)

    on_replicas(4, lambda: continued(name, tmp_path, 3))
    assert on_replicas(4, lambda: continued(name, tmp_path, 2)[2]) == on_replicas(4, whole)


@KEEPING
@pytest.mark.parametrize(("size", "nodes"), [(2, 1), (4, 4), (3, 3)])
def test_other_nodes_keep_the_sum_of_what_waits(pretend, name, size, nodes, tmp_path):
    pretend(2)
    saved = on_replicas(4, lambda: continued(name, tmp_path, 3))[0][3]
    assert all(np.abs(array).max() > 0.01 for array in saved)
    pretend(nodes)
    _, before, _, after = on_replicas(size, lambda: continued(name, tmp_path, 1))[0]
    for was, kept, now in zip(saved, before, after, strict=True):
        np.testing.assert_allclose(kept, was, rtol=0, atol=1e-6)
        assert now.any() == (nodes > 1)  # on one node it has been applied


@KEEPING
def test_what_waits_reaches_its_owner(pretend, name, tmp_path):
    """After a restart on as many replicas, but fewer nodes, it lies on replicas that do not own it."""
    pretend(4)
    on_replicas(4, lambda: continued(name, tmp_path, 3))
    pretend(2)

    def applied():
        variables, optimizer = training(name)
        CheckpointManager(tmp_path, variables=variables, optimizer=optimizer).restore()
        before, aggregator = waiting(optimizer), optimizer.gradient_aggregator
        zeros = [(np.zeros(v.shape, "f4"), v) for v in variables]
        result = [np.array(g) for g, _ in aggregator(zeros)]
        aggregator.finish_step()
        return before, result, waiting(optimizer)

    for before, result, after in on_replicas(4, applied):
        for was, now, left in zip(before, result, after, strict=False):
            assert np.abs(now).max() > 0
            np.testing.assert_allclose(now + left, was, rtol=0, atol=1e-5)


@WITH_STATE
def test_a_failed_step_leaves_nothing_behind(pretend, name):
    pretend(2)

    def fails(pairs):
        if rank() == 3:
            raise ArithmeticError("on purpose")
        return pairs

    def program():
        made = training(name)
        steps(*made, 0, 2)
        before = digest(*made)
        made[1].gradient_transformers.append(fails)
        with pytest.raises((ArithmeticError, ReplicaFailed)):
            steps(*made, 2, 1)
        made[1].gradient_transformers.clear()
        assert digest(*made) == before
        steps(*made, 2, 1)
        return digest(*made)

    def whole():
        made = training(name)
        steps(*made, 0, 3)
        return digest(*made)

    assert on_replicas(4, program) == on_replicas(4, whole)


def test_different_arguments_are_an_error(pretend):
    pretend(2)

    def program():
        variables, optimizer = training("top_k")
        optimizer.gradient_aggregator.fraction = 0.02 + 0.01 * (rank() == 2)
        steps(variables, optimizer, 0, 1)

    with pytest.raises(ReplicaMismatch, match=r"nodes\.all_gather"):
        on_replicas(4, program)


def digests(words, nodes):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PMI_", "DISTOPT_", "HYDI_"))}
    done = subprocess.run(
        list(map(str, words)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        env={**kept, "OMP_NUM_THREADS": "1", "DISTOPT_NODES": str(nodes)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split(" ", 1)[-1] if line[0] in "[0" else line for line in done.stdout.splitlines()]
    return [line for line in lines if any(name in line for name in MAKERS)]


@pytest.mark.launches
@pytest.mark.parametrize(
    ("replicas", "nodes"),
    [pytest.param(n, 2, marks=pytest.mark.slow) for n in (2, 4, 6)],
)
def test_threads_and_processes_have_the_same_bits(replicas, nodes):
    mpiexec = Path(sys.executable).parent / "mpiexec"
    if not mpiexec.exists():
        pytest.skip("no mpiexec in this environment")
    threads = [sys.executable, "-m", "distopt.testing.inprocess", "--replicas", replicas, SCRIPT]
    processes = [mpiexec, "-n", replicas, sys.executable, SCRIPT]
    found = [digests(words, nodes) for words in (threads, processes)]
    assert [line.split()[-2:] for line in found[0]] == [line.split()[-2:] for line in found[1]]
    assert len(found[0]) == len(MAKERS)


def test_through_jax(pretend):
    jax = pytest.importorskip("jax")
    import distopt.jax as dj

    pretend(2)

    def program():
        optimizer = dj.sgd(1.0, aggregator="power_sgd")
        optimizer.init({"w": jax.numpy.zeros((48, 40))})
        random = np.random.default_rng(rank())
        gradient = random.normal(size=(48, 4)) @ np.random.default_rng(9).normal(size=(4, 40))
        params = optimizer.apply({"w": jax.numpy.asarray(gradient, "float32")})
        mean = np.asarray(get_replica_context().all_reduce("mean", gradient))
        return np.asarray(params["w"]), mean

    for value, mean in on_replicas(4, program):  # of rank 4, so nothing is left out
        np.testing.assert_allclose(value, -mean, rtol=0, atol=1e-5)


@pytest.mark.torch
def test_through_torch(pretend):
    torch = pytest.importorskip("torch")
    import distopt.torch as dt

    pretend(2)

    def program():
        w = torch.nn.Parameter(torch.zeros(48, 40))
        optimizer = dt.SGD([w], lr=1.0, aggregator="top_k")
        random = np.random.default_rng(rank() // 2)
        gradient = np.zeros(48 * 40, "f4")  # less than a hundredth of all on each node
        gradient[random.choice(48 * 40, 15, replace=False)] = random.normal(size=15)
        w.grad = torch.from_numpy(gradient.reshape(48, 40))
        optimizer.step()
        mean = np.asarray(get_replica_context().all_reduce("mean", gradient.reshape(48, 40)))
        return w.detach().numpy().copy(), mean

    for value, mean in on_replicas(4, program):
        np.testing.assert_allclose(value, -mean, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.torch
def test_a_torch_restart_takes_the_aggregator_along(pretend, tmp_path):
    torch = pytest.importorskip("torch")
    import distopt.torch as dt

    pretend(2)

    def trained(folder, first, count):
        model, aggregator = torch.nn.Linear(40, 48, bias=False), MAKERS["top_k"]()
        torch.nn.init.zeros_(model.weight)
        optimizer = dt.SGD(model, lr=1.0, aggregator=aggregator)
        manager = CheckpointManager(folder, model=model, optimizer=optimizer, aggregator=aggregator)
        manager.restore()
        for step in range(first, first + count):
            gradient = np.random.default_rng([step, rank()]).normal(size=(48, 40))
            model.weight.grad = torch.from_numpy(gradient.astype("f4"))
            optimizer.step()
        manager.save()
        return model.weight.detach().numpy().tobytes()

    on_replicas(4, lambda: trained(tmp_path / "parts", 0, 3))
    continued = on_replicas(4, lambda: trained(tmp_path / "parts", 3, 2))
    assert continued == on_replicas(4, lambda: trained(tmp_path / "whole", 0, 5))
