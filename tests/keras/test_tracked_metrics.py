"""Metrics that a model holds itself: begun anew with each epoch and evaluation, told with the others."""

from typing import Any

import numpy as np
import pytest

import distopt as tf
from distopt import keras
from distopt.distribute import VirtualStrategy
from distopt.keras import callbacks as C
from distopt.keras import layers as L
from distopt.keras import metrics as M

X = np.ones((4, 1), np.float32)


class Tracking(keras.Model):
    """The pattern of Keras' guide; what train_step tells is the mean of the labels."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = L.Dense(1)
        self.tracker: Any = M.Mean(name="label")

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def train_step(self, data: Any) -> dict[str, Any]:
        self.tracker.update_state(data[1])
        return {"label": self.tracker.result()}

    test_step = train_step


class ByProperty(Tracking):
    """The list of metrics is overridden."""

    @property
    def metrics(self) -> list[Any]:
        return [self.tracker]


class InLayer(Tracking):
    """The metric is in a list of a layer's layer."""

    def __init__(self) -> None:
        super().__init__()
        inner = L.Dense(1)
        inner.trackers = {"of labels": [self.tracker]}  # type: ignore[attr-defined]
        self.dense = keras.Sequential([inner])
        self.tracker = lambda: inner.trackers["of labels"][0]  # type: ignore[attr-defined]

    def train_step(self, data: Any) -> dict[str, Any]:
        self.tracker().update_state(data[1])
        return {"label": self.tracker().result()}

    test_step = train_step


class Plain:
    """A metric that is no Metric, and has Keras' older name only."""

    name = "label"

    def __init__(self) -> None:
        self.reset_states()

    def reset_states(self) -> None:
        self.values: list[float] = []

    def update_state(self, values: Any) -> None:
        self.values += np.ravel(values).tolist()

    def result(self) -> float:
        return float(np.mean(self.values))


class NoMetric(ByProperty):
    """The list of metrics holds something of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = Plain()


class Labels:
    """Batches of other labels at each reading."""

    def __init__(self, *labels: float) -> None:
        self.labels = iter(labels)

    def __iter__(self) -> Any:
        yield X, next(self.labels) * X


@pytest.mark.parametrize("cls", [Tracking, ByProperty, InLayer, NoMetric])
def test_each_epoch_and_evaluation_begins_anew(cls: Any, replicas: Any) -> None:
    def program() -> Any:
        model = cls()
        model.compile("sgd")
        history = model.fit(Labels(1, 3), epochs=2, verbose=0, validation_data=(X, 5 * X)).history
        batches = [model.train_on_batch(X, n * X) for n in (1, 2)]
        batches += [model.test_on_batch(X, 3 * X), model.train_on_batch(X, 5 * X, reset_metrics=False)]
        return history["label"], history["val_label"], batches, model.evaluate(X, 7 * X, verbose=0)

    for found in replicas.run(program):
        assert found == ([1.0, 3.0], [5.0, 5.0], [1.0, 2.0, 3.0, 4.0], 7.0)


def test_a_model_that_all_replicas_share() -> None:
    strategy = VirtualStrategy(2)
    with strategy.scope():
        model = Tracking()
        model.compile("sgd")
    strategy.run(lambda: model.fit(Labels(1, 3), epochs=2, verbose=0) and None)
    assert model.history is not None
    assert model.history.history["label"] == [1.0, 3.0]


class Usual(keras.Sequential):
    """The step as TensorFlow's guides have it: it tells the loss too, by model.metrics."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compiled_loss(y, y_pred := self(x, training=True))
        weights = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        self.compiled_metrics.update_state(y, y_pred)
        return {m.name: m.result() for m in self.metrics}


def test_the_loss_is_one_of_the_metrics(replicas: Any) -> None:
    x = np.arange(10.0).reshape(10, 1)

    def program(cls: Any) -> Any:
        model = cls([L.Dense(1, kernel_initializer="ones", input_shape=(1,), dtype="float64")])
        model.compile(keras.optimizers.SGD(0.001), "mse", ["mae"])
        return model.fit(x, 3 * x, batch_size=4, epochs=2, verbose=0, validation_data=(x, x)).history

    expected = program(keras.Sequential)
    for history in replicas.run(lambda: program(Usual)):
        assert list(history) == list(expected) == ["loss", "mae", "val_loss", "val_mae"]
        for name, values in expected.items():
            assert history[name] == pytest.approx(values, rel=1e-6)


class Counting(keras.Sequential):
    """A metric that is updated in call, and told by the shipped step."""

    def __init__(self, layers: Any, name: str) -> None:
        super().__init__(layers)
        self.inputs_mean = M.Mean(name=name)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if training is not None:
            self.inputs_mean.update_state(inputs)
        return super().call(inputs, training)


def test_the_shipped_step_tells_them_too(replicas: Any) -> None:
    def program() -> Any:
        model = Counting([L.Dense(1, input_shape=(1,))], "inputs")
        model.compile("sgd", "mse", ["mae"])
        evaluated = model.evaluate(3 * X, X, verbose=0)
        assert len(evaluated) == 3
        return evaluated[2], model.metrics_names

    for inputs, names in replicas.run(program):
        assert inputs == pytest.approx(3.0)
        assert names == ["loss", "mae", "inputs"]
    model = Counting([L.Dense(1, input_shape=(1,))], "mae")
    model.compile("sgd", "mse", ["mae"])
    with pytest.raises(ValueError, match="two metrics with the name 'mae'"):
        model.evaluate(X, X, verbose=0)


class Crash(Exception):
    pass


def test_a_backup_holds_what_they_have_counted(tmp_path: Any) -> None:
    """In the middle of an epoch too, and whatever a subclass makes of model.metrics."""

    def told(*callbacks: C.Callback) -> list[float]:
        model = ByProperty()
        model.compile("sgd")
        labels = np.arange(8.0).reshape(8, 1)
        backup = C.BackupAndRestore(tmp_path, save_freq=1)
        options = {"batch_size": 2, "epochs": 2, "shuffle": False, "verbose": 0}
        return model.fit(labels, labels, callbacks=[*callbacks, backup], **options).history["label"]

    def crash(batch: int, logs: Any) -> None:
        if batch == 2:
            raise Crash

    with pytest.raises(Crash):
        told(C.LambdaCallback(on_batch_end=crash))
    assert told() == [3.5, 3.5]
