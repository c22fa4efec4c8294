"""A replica without examples in a batch adds nothing: no NaN, and no warning of NumPy's."""

import warnings
from typing import Any

import numpy as np
import pytest

import distopt as tf
from distopt import keras
from distopt.distribute import get_replica_context
from distopt.keras import layers as L

X = np.arange(1.0, 11.0).reshape(10, 1) / 16


class Weighed(keras.Model):
    """Learns how much its own loss weighs, tells it in a metric, and looks numbers up."""

    def __init__(self) -> None:
        super().__init__()
        self.first = L.Dense(1, kernel_initializer="ones")
        self.names = L.Embedding(3, 1, embeddings_initializer="ones")
        self.weight = tf.Variable(0.5)
        self.spread = keras.metrics.Mean("spread")

    def call(self, x: Any) -> Any:
        y = self.first(x) * self.names(np.zeros(len(x), int))
        error = np.mean((y - 2 * x) ** 2)
        self.spread.update_state(error)
        self.add_loss(np.exp(-self.weight) * error + 0.1 * self.weight)
        return y


@pytest.mark.parametrize("steps_per_update", [1, 2])
def test_a_loss_that_a_weight_is_multiplied_with(replicas: Any, steps_per_update: int) -> None:
    """The last batch is one example, the share of one replica."""

    def program() -> list[np.ndarray]:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            model = Weighed()
            model.compile(keras_sgd(), steps_per_update=steps_per_update)
            model.fit(X[:9], batch_size=4, shuffle=False, verbose=0, validation_data=X[:9:4])
            return [*model.get_weights(), np.float32(model.history.history["loss"])]

    def keras_sgd() -> Any:
        return tf.optimizers.SGD(0.1)

    alone = program()
    for found in replicas.run(program):
        for value, expected in zip(found, alone, strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-5)


class Tracked(keras.Model):
    """The pattern of Keras' guide, with a metric of its user's besides."""

    def __init__(self) -> None:
        super().__init__()
        self.first = L.Dense(1)
        self.means, self.own = keras.metrics.Mean("means"), Own()

    def call(self, x: Any) -> Any:
        return self.first(x)

    def train_step(self, data: Any) -> dict[str, Any]:
        mean = np.mean(data[0])
        self.means.update_state(mean)
        self.own.update_state(mean)
        return {metric.name: metric.result() for metric in self.metrics}

    test_step = train_step


class Own(keras.metrics.Metric):
    """The sum of means."""

    def __init__(self) -> None:
        super().__init__("own")
        self.total = self.add_weight("total")

    def update_state(self, value: Any) -> None:
        self.total.assign_add(value)

    def result(self) -> Any:
        return self.total.numpy()


def test_means_that_a_step_takes(replicas: Any) -> None:
    def program() -> tuple[dict[str, list[float]], Any]:
        def batches() -> Any:
            yield (np.ones((2, 1)),)
            if get_replica_context().replica_id_in_sync_group == 0:
                yield (np.full((2, 1), 4.0),)

        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            model = Tracked()
            model.compile("sgd")
            history = model.fit(batches(), steps_per_epoch=2, verbose=0).history
            return history, model.evaluate(X[:1], verbose=0, return_dict=True)

    found = replicas.run(program)
    count = len(found)
    for history, told in found:
        assert history["own"] == [count + 4.0]
        assert history["means"] == [pytest.approx((count + 4.0) / (count + 1))]
        assert told == {"means": X[0, 0], "own": X[0, 0]}
