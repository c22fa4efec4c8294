"""Checkpoints of several replicas: what they agree on, and that a run goes on with the same bits."""

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from saved_training import training

from distopt import Variable, keras
from distopt.checkpoint import CheckpointManager
from distopt.distribute import get_replica_context
from distopt.errors import ReplicaFailed
from distopt.keras import callbacks, layers

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(np.float32)[:, None]


def rank() -> int:
    return int(get_replica_context().replica_id_in_sync_group)


def test_a_run_goes_on_with_the_same_bits(replicas: Any, directory: Path) -> None:
    whole = replicas.run(lambda: training(directory / "whole", 7))
    replicas.run(lambda: training(directory / "parts", 3, save_at=3, background=True))
    assert replicas.run(lambda: training(directory / "parts", 7)) == whole


def digest_of_fit(directory: Path, preempt_at: int = 0) -> Any:
    """The weights at the end of fit, or the exit code of one that SIGTERM to replica 0 ended."""

    def preempt(batch: int, logs: Any) -> None:
        if int(model.optimizer.iterations) == preempt_at and rank() == 0:
            signal.raise_signal(signal.SIGTERM)

    init = keras.initializers.GlorotUniform(seed=1)
    model = keras.Sequential(
        [
            layers.Dense(5, activation="relu", kernel_initializer=init, input_shape=(6,)),
            layers.Dropout(0.25, seed=1),
            layers.Dense(1, activation="sigmoid", kernel_initializer=init),
        ]
    )
    model.compile("adam", "binary_crossentropy", ["accuracy"])
    backup = callbacks.BackupAndRestore(directory, save_freq=2)
    told = [callbacks.LambdaCallback(on_batch_end=preempt), backup]
    try:
        history = model.fit(X, Y, batch_size=8, epochs=3, verbose=0, callbacks=told)
    except SystemExit as end:
        return end.code
    hashed = hashlib.sha256(repr(history.history).encode())
    for array in (*model.get_weights(), *model.optimizer.get_weights()):
        hashed.update(np.asarray(array).tobytes())
    return hashed.hexdigest()


def test_a_fit_goes_on_with_the_same_bits(replicas: Any, directory: Path) -> None:
    whole = replicas.run(lambda: digest_of_fit(directory / "whole"))
    assert len(set(whole)) == 1
    for at in (3, 5, 9):
        ends = replicas.run(lambda at=at: digest_of_fit(directory / "parts", at))
        assert ends == [143] * replicas.size
    assert replicas.run(lambda: digest_of_fit(directory / "parts")) == whole


def test_all_fall_back_from_one_torn_file(replicas: Any, directory: Path) -> None:
    def program() -> Any:
        w, mine = Variable(np.zeros(1000), name="w"), {"own": 0}
        manager = CheckpointManager(directory, variables=[w], mine=mine)
        for value in (1, 2):
            w.assign(np.full(1000, float(value)))
            mine["own"] = 10 * value + rank()
            latest = manager.save()
        own = Path(latest, f"replica-{rank():05d}.safetensors")
        last = rank() == get_replica_context().num_replicas_in_sync - 1
        if last:
            torn = own if own.exists() else Path(latest, "state-00000.safetensors")
            os.truncate(torn, torn.stat().st_size - 1)
        get_replica_context().all_reduce("sum", 1.0)
        assert manager.restore()
        return float(w[0]), mine["own"]

    assert replicas.run(program) == [(1.0, 10 + r) for r in range(replicas.size)]


def test_all_learn_of_a_save_that_failed_on_one(replicas: Any, directory: Path) -> None:
    def program() -> Any:
        last = get_replica_context().num_replicas_in_sync - 1
        mine = {"x": object() if rank() == last else 0}
        with pytest.raises(TypeError if rank() == last else ReplicaFailed, match="cannot save a object"):
            CheckpointManager(directory, mine=mine).save()
        manager = CheckpointManager(directory, mine={"x": rank()})
        number = Path(manager.save()).name
        manager.clear()
        return number, manager.restore(), directory.exists()

    assert replicas.run(program) == [("checkpoint-00000001", False, False)] * replicas.size


def test_all_are_refused_where_another_job_writes(replicas: Any, directory: Path) -> None:
    owner = {"host": "far-away", "machine": "", "boot": "another", "space": "", "pid": 12345, "born": 1}
    other = {**owner, "since": "2026-01-02 03:04:05 +0000", "jobs": [], "token": "ab12"}

    def program() -> Any:
        if rank() == 0:
            (directory / "checkpoints.lock").write_text(json.dumps(other))
        get_replica_context().all_reduce("sum", 1.0)
        for call in ("save", "lock", "clear"):
            manager = CheckpointManager(directory, mine={"own": rank()})
            with pytest.raises(RuntimeError, match="by another job: it belongs to process 12345 on far-away"):
                getattr(manager, call)()
        assert not manager.restore()
        get_replica_context().all_reduce("sum", 1.0)
        return sorted(path.name for path in directory.iterdir())

    assert replicas.run(program) == [["checkpoints.lock"]] * replicas.size


def test_several_managers_and_saves_in_the_background(replicas: Any, directory: Path) -> None:
    def program() -> Any:
        mine = {"n": 0, "own": rank()}
        managers = [CheckpointManager(directory, keep=2, mine=mine) for _ in range(2)]
        for n in range(1, 5):
            mine["n"] = n
            managers[n % 2].save(background=True)
            managers[n % 2].wait()
        mine.update(n=0, own=-1)
        assert managers[0].restore()
        for manager in managers:
            manager.unlock()
        get_replica_context().all_reduce("sum", 1.0)
        return mine, len(list(directory.iterdir()))

    assert replicas.run(program) == [({"n": 4, "own": r}, 2) for r in range(replicas.size)]
