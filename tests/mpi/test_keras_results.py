"""Results of fit over MPI: names, metrics that a model holds, validation at times, data that end early."""

from typing import Any

import numpy as np
import pytest

from distopt import keras
from distopt.keras import callbacks, layers, metrics

X = np.arange(8.0).reshape(8, 1) / 8
WEIGHT = np.arange(8.0)


def model_of(cls: Any = keras.Sequential) -> Any:
    return cls([layers.Dense(1, kernel_initializer="ones", input_shape=(1,))])


def test_the_same_metric_with_and_without_weights(replicas: Any) -> None:
    def program() -> Any:
        model = model_of()
        model.compile("sgd", "mse", metrics=["mae"], weighted_metrics=["mae"])
        values = model.evaluate(X, 0 * X, batch_size=5, sample_weight=WEIGHT, verbose=0)
        return dict(zip(model.metrics_names, values, strict=True))

    for told in replicas.run(program):
        assert list(told) == ["loss", "mae", "weighted_mae"]
        assert told["mae"] == pytest.approx(X.mean(), rel=1e-6)
        assert told["weighted_mae"] == pytest.approx(np.average(X[:, 0], weights=WEIGHT), rel=1e-6)


class Tracking(keras.Sequential):
    """Tells the mean of the labels, by a metric of its own."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.tracker = metrics.Mean(name="label")

    def train_step(self, data: Any) -> dict[str, Any]:
        self.tracker.update_state(data[1])
        return {m.name: m.result() for m in self.metrics}

    test_step = train_step


class Labels:
    """A batch of other labels at each reading."""

    def __init__(self, *labels: float) -> None:
        self.labels = iter(labels)

    def __iter__(self) -> Any:
        yield X, 0 * X + next(self.labels)


def test_metrics_that_a_model_holds_begin_anew(replicas: Any) -> None:
    def program() -> Any:
        model = model_of(Tracking)
        model.compile("sgd")
        history = model.fit(Labels(1, 3), epochs=2, verbose=0, validation_data=(X, 0 * X + 5)).history
        return history, model.evaluate(X, 0 * X + 7, verbose=0)

    for found in replicas.run(program):
        assert found == ({"label": [1.0, 3.0], "val_label": [5.0, 5.0]}, 7.0)


def test_validation_at_times_and_data_that_end(replicas: Any) -> None:
    def program() -> Any:
        model = model_of()
        model.compile("sgd", "mse")
        stop = callbacks.EarlyStopping(patience=9, min_delta=1e9)
        reduce = callbacks.ReduceLROnPlateau(patience=1, min_delta=1e9, min_lr=0.001)
        batches = iter([(X, X + 1)] * 9)
        options = {"steps_per_epoch": 2, "epochs": 9, "validation_freq": [1, 2, 3, 5], "verbose": 0}
        history = model.fit(batches, validation_data=[X, X], callbacks=[stop, reduce], **options)
        assert len(history.history["val_loss"]) == 4
        return history.epoch, stop.best_epoch, stop.wait, reduce.wait, history.history["lr"]

    for epochs, best_epoch, wait, at_least, rates in replicas.run(program):
        assert (epochs, best_epoch, wait, at_least) == ([0, 1, 2, 3, 4], 0, 3, 2)
        assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001, 0.001])
