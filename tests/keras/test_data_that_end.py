"""Iterators that end before all their batches came: a warning, and what was trained is not lost."""

from typing import Any

import numpy as np
import pytest

from distopt import keras
from distopt.distribute import get_replica_context
from distopt.keras import callbacks as C
from distopt.keras import layers as L

X = np.random.default_rng(2).normal(size=(12, 3))
Y = X.sum(1, keepdims=True) + 1


def model_of() -> keras.Sequential:
    model = keras.Sequential([L.Dense(1, kernel_initializer="ones", input_shape=(3,))])
    model.compile("sgd", "mse")
    return model


def batches(count: int) -> Any:
    for _ in range(count):
        yield X, Y


@pytest.mark.parametrize(("count", "epochs"), [(5, 3), (4, 2), (3, 2), (1, 1)])
def test_training_ends_there(count: int, epochs: int, replicas: Any, caplog: Any) -> None:
    def program() -> Any:
        ends: list[Any] = []
        model = model_of()
        told = C.LambdaCallback(on_train_end=lambda logs: ends.append(dict(logs)))
        options = {"steps_per_epoch": 2, "epochs": 4, "validation_data": (X, Y), "verbose": 0}
        history = model.fit(batches(count), callbacks=[told], **options)
        assert history is model.history
        assert history.epoch == list(range(epochs))
        assert len(history.history["loss"]) == len(history.history["val_loss"]) == epochs
        assert ends == [{name: values[-1] for name, values in history.history.items()}]
        return int(model.optimizer.iterations)

    assert replicas.run(program) == [count] * replicas.size
    warnings = [r.getMessage() for r in caplog.records if "the data ended before" in r.getMessage()]
    assert [text.split()[0] for text in warnings] == ["fit():"]


def test_replicas_data_may_end_at_different_times(replicas: Any) -> None:
    """Training goes on as long as one of them has any."""

    def program() -> Any:
        rank = int(get_replica_context().replica_id_in_sync_group)
        model = model_of()
        epochs = model.fit(batches(2 * rank + 2), steps_per_epoch=2, epochs=9, verbose=0).epoch
        return len(epochs), int(model.optimizer.iterations)

    assert replicas.run(program) == [(replicas.size, 2 * replicas.size)] * replicas.size


def test_so_do_iterables_that_give_none_the_next_time(caplog: Any) -> None:
    class Once:
        def __init__(self) -> None:
            self.left = batches(3)

        def __iter__(self) -> Any:
            yield from self.left

    history = model_of().fit(Once(), epochs=4, verbose=0)
    assert history.epoch == [0]
    assert "fit(): the data ended before" in caplog.text


def test_enough_data_are_no_reason_to_warn(caplog: Any) -> None:
    model = model_of()
    model.fit(batches(4), steps_per_epoch=2, epochs=2, verbose=0)
    model.fit(batches(4), verbose=0)
    model.evaluate(batches(4), steps=4, verbose=0)
    model.evaluate(batches(4), verbose=0)
    assert "ended" not in caplog.text


def test_evaluation_tells_of_it_too(caplog: Any) -> None:
    model = model_of()
    assert model.evaluate(batches(2), steps=3, verbose=0) == pytest.approx(model.evaluate(X, Y, verbose=0))
    assert "evaluate(): the data ended before" in caplog.text


def test_an_interrupted_fit_of_data_that_ended_ends_too(tmp_path: Any) -> None:
    class Crash(Exception):
        pass

    def fit(*callbacks: C.Callback) -> list[int]:
        backup = C.BackupAndRestore(tmp_path, delete_checkpoint=False)
        options = {"steps_per_epoch": 2, "epochs": 9, "verbose": 0}
        return model_of().fit(batches(4), callbacks=[*callbacks, backup], **options).epoch

    def crash(epoch: int, logs: Any = None) -> None:
        if epoch == 2:
            raise Crash

    with pytest.raises(Crash):
        fit(C.LambdaCallback(on_epoch_begin=crash))
    assert fit() == [0, 1]
