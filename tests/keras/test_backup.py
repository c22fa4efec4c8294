"""BackupAndRestore: a fit that is interrupted anywhere ends with the bits of one that was not."""

import errno
import signal
from typing import Any

import numpy as np
import pytest

from distopt import keras
from distopt.checkpoint import CheckpointManager, files
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.keras import callbacks as C
from distopt.keras import layers as L
from distopt.keras.data import Dataset

RNG = np.random.default_rng(6)
X = RNG.normal(size=(44, 5)).astype(np.float32)
Y = RNG.integers(0, 3, 44)
EPOCHS = 4


class Crash(Exception):
    pass


class CrashAt(C.Callback):
    """Ends training on all replicas after the given number of batches, counted from the beginning."""

    local_batches = True

    def __init__(self, batches: int, by: Any = Crash) -> None:
        super().__init__()
        self.left, self.by = batches, by

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.left -= 1
        if self.left == 0:
            if isinstance(self.by, signal.Signals):
                if get_replica_context().replica_id_in_sync_group == 0:
                    signal.raise_signal(self.by)
            else:
                raise self.by


def model_of(steps_per_update: int = 1) -> keras.Sequential:
    init = keras.initializers.GlorotUniform(seed=1)
    model = keras.Sequential(
        [
            L.Dense(6, activation="relu", kernel_initializer=init, input_shape=(5,)),
            L.Dropout(0.2, seed=3),
            L.Dense(3, activation="softmax", kernel_initializer=init),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.05),
        "sparse_categorical_crossentropy",
        ["accuracy"],
        steps_per_update=steps_per_update,
    )
    return model


def arrays() -> tuple[Any, dict[str, Any]]:
    return X, {"y": Y, "batch_size": 8, "validation_data": (X[:9], Y[:9])}


def shuffled() -> tuple[Any, dict[str, Any]]:
    """Data of this replica's own, in another order at each reading."""
    context = get_replica_context()
    own = slice(context.replica_id_in_sync_group, None, context.num_replicas_in_sync)
    return Dataset.from_tensor_slices((X[own], Y[own])).shuffle(seed=2).batch(3), {}


def weighted() -> tuple[Any, dict[str, Any]]:
    """The same, its examples weighted by class."""
    data, _ = shuffled()
    return data, {"class_weight": {0: 1.0, 1: 0.5, 2: 2.0}}


def generated() -> tuple[Any, dict[str, Any]]:
    """An iterator that can be read once."""
    return ((X[i % 40 : i % 40 + 4], Y[i % 40 : i % 40 + 4]) for i in range(60)), {"steps_per_epoch": 5}


def ended(
    directory: Any, crash: Any = None, data: Any = arrays, updates: int = 1, more: Any = None, **backup: Any
) -> Any:
    """Weights, optimizer, history and average at the end of fit; None if it crashed."""
    np.random.seed(9 + int(get_replica_context().replica_id_in_sync_group))
    model = model_of(updates)
    average = C.ExponentialMovingAverage(0.9, swap=False)
    x, options = data()
    callbacks = [C.BackupAndRestore(directory, **backup), average, *(more() if more else ())]
    if crash is not None:
        callbacks.append(crash)
    try:
        history = model.fit(x, epochs=EPOCHS, verbose=0, seed=4, callbacks=callbacks, **options)
    except Crash:
        return None
    except SystemExit as end:
        return end.code
    drawn = float(np.random.random())
    values = [w.tolist() for w in (*model.get_weights(), *model.optimizer.get_weights(), *average.averages)]
    return values, history.history, history.epoch, drawn


@pytest.mark.parametrize(
    ("data", "save_freq"),
    [
        *((data, 4) for data in (arrays, generated)),
        *((data, "epoch") for data in (shuffled, weighted)),
        *(pytest.param(data, "epoch", marks=pytest.mark.slow) for data in (arrays, generated)),
        *(pytest.param(data, 4, marks=pytest.mark.slow) for data in (shuffled, weighted)),
    ],
)
def test_the_same_bits_after_crashes(replicas: Any, tmp_path: Any, data: Any, save_freq: Any) -> None:
    whole = replicas.run(lambda: ended(tmp_path / "whole", data=data, save_freq=save_freq))
    assert all(isinstance(end, tuple) for end in whole)

    def crash(batches: int) -> list[Any]:
        return replicas.run(
            lambda: ended(tmp_path / "parts", CrashAt(batches), data=data, save_freq=save_freq)
        )

    # Before the first backup; in an epoch; at an epoch's last batch, whose end is not reached.
    for batches in (2, 8, 7):
        assert crash(batches) == [None] * replicas.size
    assert replicas.run(lambda: ended(tmp_path / "parts", data=data, save_freq=save_freq)) == whole


def schedules() -> list[C.Callback]:
    """Callbacks that remember, and one that changes the rate by what it was."""
    return [
        C.LearningRateScheduler(lambda epoch, rate: rate * 0.8),
        C.ReduceLROnPlateau("loss", patience=1, min_delta=0.2),
        C.EarlyStopping("loss", patience=2, min_delta=0.05, restore_best_weights=True),
    ]


@pytest.mark.parametrize("at", [3, 9, *(pytest.param(at, marks=pytest.mark.slow) for at in (6, 12))])
def test_callbacks_remember(tmp_path: Any, at: int) -> None:
    def run(directory: str, crash: Any = lambda: None) -> list[Any]:
        results: list[Any] = []

        def program() -> None:
            results.append(ended(tmp_path / directory, crash(), more=schedules, save_freq=1))

        VirtualStrategy(2).run(program)
        return results

    whole = run("whole")
    assert run("parts", lambda: CrashAt(at)) == [None, None]
    assert run("parts") == whole


def test_warmup_goes_on_from_the_rate_before_it(tmp_path: Any) -> None:
    def warmup() -> list[C.Callback]:
        return [C.LearningRateWarmup(3, scale=4)]

    whole = ended(tmp_path / "whole", more=warmup)
    assert ended(tmp_path / "parts", CrashAt(9), more=warmup, save_freq=2) is None
    assert ended(tmp_path / "parts", more=warmup) == whole


def test_sigterm_saves_at_the_end_of_the_step(replicas: Any, tmp_path: Any) -> None:
    whole = replicas.run(lambda: ended(tmp_path / "whole"))
    before = signal.getsignal(signal.SIGTERM)

    def preempt(batches: int) -> list[Any]:
        return replicas.run(lambda: ended(tmp_path / "parts", CrashAt(batches, signal.SIGTERM)))

    for batches in (3, 5, 6, 7):
        assert preempt(batches) == [143] * replicas.size
    assert signal.getsignal(signal.SIGTERM) is before
    assert replicas.run(lambda: ended(tmp_path / "parts")) == whole


def test_gradients_that_wait_are_not_torn_apart(tmp_path: Any) -> None:
    # Two updates of three batches in each epoch: a backup waits for the next of them.
    whole = ended(tmp_path / "whole", updates=3)
    assert ended(tmp_path / "parts", CrashAt(4, signal.SIGTERM), updates=3) == 143
    assert ended(tmp_path / "parts", CrashAt(5), updates=3, save_freq=2) is None
    assert ended(tmp_path / "parts", updates=3) == whole


@pytest.mark.parametrize(("before", "after"), [(2, 4), (4, 1)])
def test_at_another_number_of_replicas(tmp_path: Any, before: int, after: int) -> None:
    """In the middle of an epoch: its loss and metrics are those of all its examples."""

    def run(count: int, crash: int = 0) -> list[Any]:
        results: list[Any] = []

        def program() -> None:
            model = model_of()
            model.layers[1].rate = 0.0  # random numbers belong to replicas
            callbacks = [C.BackupAndRestore(tmp_path / "b", save_freq=3), CrashAt(crash)]
            try:
                fit = model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=callbacks)
            except Crash:
                return
            results.append((model.get_weights(), fit.history))

        VirtualStrategy(count).run(program)
        return results

    whole = run(1)[0]
    assert run(before, crash=4) == []
    ends = run(after)
    assert len(ends) == after
    for weights, history in ends:
        for array, wanted in zip(weights, whole[0], strict=True):
            np.testing.assert_allclose(array, wanted, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(history["loss"], whole[1]["loss"], rtol=1e-5)
        np.testing.assert_allclose(history["accuracy"], whole[1]["accuracy"], rtol=1e-6)


def test_backups_go_when_training_is_complete_or_stay(replicas: Any, tmp_path: Any) -> None:
    replicas.run(lambda: ended(tmp_path / "gone"))
    assert not (tmp_path / "gone").exists()
    first = replicas.run(lambda: ended(tmp_path / "kept", delete_checkpoint=False, save_freq=100))
    assert (tmp_path / "kept").exists()
    assert replicas.run(lambda: ended(tmp_path / "kept", CrashAt(1), delete_checkpoint=False)) == first


@pytest.mark.parametrize("background", [False, True])
def test_a_full_disk_does_not_end_the_training(
    replicas: Any, tmp_path: Any, monkeypatch: Any, caplog: Any, background: bool
) -> None:
    whole = replicas.run(lambda: ended(tmp_path / "whole"))
    saved = replicas.run(lambda: ended(tmp_path / "parts", CrashAt(10), save_freq=3))
    assert saved == [None] * replicas.size
    before = sorted(file.name for file in (tmp_path / "parts").iterdir())

    def full(path: str, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_file", full)
        program = lambda: ended(tmp_path / "parts", CrashAt(6), save_freq=2, background=background)  # noqa: E731
        assert replicas.run(program) == [None] * replicas.size
    assert "could not be written: No space left on device" in caplog.text
    kept = sorted(file.name for file in (tmp_path / "parts").iterdir() if not file.name.endswith(".part"))
    assert kept == before
    assert replicas.run(lambda: ended(tmp_path / "parts")) == whole


def test_what_was_saved_agrees_with_the_files_of_weights(replicas: Any, tmp_path: Any) -> None:
    def program() -> list[Any]:
        model = model_of()
        kept = C.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
        best = C.ModelCheckpoint(tmp_path / "{epoch}.safetensors")
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[kept, best])
        model.save_weights(tmp_path / "end.npz")
        state = model.optimizer.get_weights()
        found = []
        for path in ("2.safetensors", "end.npz"):
            other = model_of()
            other.load_weights(tmp_path / path)
            found.append([w.tolist() for w in other.get_weights()])
        other = model_of()
        assert CheckpointManager(tmp_path / "backup", model=other).restore()
        for array, wanted in zip(other.optimizer.get_weights(), state, strict=True):
            np.testing.assert_array_equal(array, wanted)
        return [*found, [w.tolist() for w in other.get_weights()], [w.tolist() for w in model.get_weights()]]

    for found in replicas.run(program):
        assert found[0] == found[1] == found[2] == found[3]


def test_bad_arguments() -> None:
    for wrong in ("batch", 0, 1.5, True):
        with pytest.raises(ValueError, match="save_freq must be 'epoch' or a positive integer"):
            C.BackupAndRestore("d", save_freq=wrong)
    with pytest.raises(ValueError, match="keep must be at least 1"):
        C.BackupAndRestore("d", keep=0)
    with pytest.raises(RuntimeError, match="no manager before fit"):
        _ = C.BackupAndRestore("d").manager
