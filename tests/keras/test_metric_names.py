"""The names of results: each number has one, and evaluate and metrics_names agree."""

from typing import Any

import numpy as np
import pytest

from distopt import keras
from distopt.keras import layers as L
from distopt.keras import metrics as M

X = np.arange(8.0).reshape(8, 1) / 16
Y = np.zeros((8, 1))
WEIGHT = np.arange(8.0)


class TwoHeads(keras.Model):
    """Outputs x and 2 x."""

    def __init__(self) -> None:
        super().__init__()
        self.first = L.Dense(1, kernel_initializer="ones")
        self.second = L.Dense(1, kernel_initializer=lambda shape, dtype=None: np.full(shape, 2, dtype))

    def call(self, x: Any) -> Any:
        return {"a": self.first(x), "b": self.second(x)}


def one_head() -> keras.Sequential:
    return keras.Sequential([L.Dense(1, kernel_initializer="ones", input_shape=(1,))])


def evaluated(model: Any, y: Any, **compiled: Any) -> dict[str, float]:
    """By name, each way of telling the results being the same."""
    model.compile("sgd", "mse", **compiled)
    told = model.evaluate(X, y, batch_size=5, sample_weight=WEIGHT, verbose=0, return_dict=True)
    values = np.ravel(model.evaluate(X, y, batch_size=5, sample_weight=WEIGHT, verbose=0))
    assert len(values) == len(model.metrics_names) == len(told)
    assert dict(zip(model.metrics_names, values, strict=True)) == told
    return told


def test_the_same_metric_with_and_without_weights(replicas: Any) -> None:
    def program() -> dict[str, float]:
        return evaluated(one_head(), Y, metrics=["mae"], weighted_metrics=["mae", "mse"])

    for told in replicas.run(program):
        assert list(told) == ["loss", "mae", "weighted_mae", "mse"]
        assert told["mae"] == pytest.approx(X.mean(), rel=1e-6)
        assert told["weighted_mae"] == pytest.approx(np.average(X[:, 0], weights=WEIGHT), rel=1e-6)


def test_several_outputs(replicas: Any) -> None:
    def program() -> dict[str, float]:
        return evaluated(TwoHeads(), {"a": Y, "b": Y}, metrics=["mae"], weighted_metrics=["mae"])

    for told in replicas.run(program):
        assert list(told) == [
            *("loss", "a_loss", "b_loss", "a_mae", "a_weighted_mae", "b_mae", "b_weighted_mae"),
        ]
        assert told["a_mae"] == pytest.approx(X.mean(), rel=1e-6)
        assert told["b_weighted_mae"] == pytest.approx(2 * told["a_weighted_mae"], rel=1e-6)


def test_one_object_for_several_places_counts_in_each_for_itself() -> None:
    metric = M.MeanAbsoluteError(name="mine")
    for _ in range(2):  # names do not grow from one compile() to the next
        told = evaluated(TwoHeads(), {"a": Y, "b": Y}, metrics=[metric])
        assert list(told)[3:] == ["a_mine", "b_mine"]
        assert told["b_mine"] == pytest.approx(2 * told["a_mine"], rel=1e-6)
        assert told["a_mine"] == pytest.approx(X.mean(), rel=1e-6)
    told = evaluated(one_head(), Y, metrics=[metric], weighted_metrics=[metric])
    assert list(told) == ["loss", "mine", "weighted_mine"]
    assert told["weighted_mine"] > told["mine"]
    with pytest.raises(ValueError, match=r"'given' is in several places.* make one for each"):
        evaluated(TwoHeads(), {"a": Y, "b": Y}, metrics=[M.MeanMetricWrapper(M.mae, "given")])


def test_metrics_that_their_class_named_are_numbered() -> None:
    given = [M.Precision(0.5), M.Precision(0.7), M.Recall()]
    assert list(evaluated(one_head(), Y, metrics=given)) == ["loss", "precision", "precision_1", "recall"]
    assert list(evaluated(one_head(), Y, metrics=given[1:])) == ["loss", "precision_1", "recall"]


def loss(y_true: Any, y_pred: Any) -> Any:
    return np.abs(y_true - y_pred)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"metrics": ["mae", "mae"]}, "mae"),
        ({"metrics": ["mae"], "weighted_metrics": ["mae", "mae"]}, "weighted_mae"),
        ({"weighted_metrics": ["mae", "mae"]}, "mae"),
        ({"metrics": [M.MeanSquaredError(), M.MeanSquaredError()]}, "mean_squared_error"),
        ({"metrics": [M.AUC(name="x"), M.Recall(name="x")]}, "x"),
        ({"metrics": [loss]}, "loss"),
    ],
)
def test_two_of_one_name_are_refused_before_training(given: dict[str, Any], name: str) -> None:
    model = one_head()
    model.compile("sgd", "mse", **given)
    before = model.get_weights()
    with pytest.raises(ValueError, match=f"two metrics with the name '{name}'"):
        model.fit(X, Y, verbose=0)
    assert (model.get_weights()[0] == before[0]).all()


class OwnResults(keras.Sequential):
    """Tells results of its own."""

    def train_step(self, data: Any) -> dict[str, Any]:
        return {"zeta": 1.0, "alpha": 2.0, "mae": 3.0, "loss": 4.0}

    test_step = train_step


def test_results_of_an_own_step_are_listed_as_keras_does() -> None:
    """First the known ones, then the others by name."""
    model = OwnResults([L.Dense(1, input_shape=(1,))])
    model.compile("sgd", "mse", ["mae"])
    assert model.evaluate(X, Y, verbose=0) == [4.0, 3.0, 2.0, 1.0]
    assert model.metrics_names == ["loss", "mae", "alpha", "zeta"]
    assert model.train_on_batch(X, Y) == [4.0, 3.0, 2.0, 1.0]
    model.compile("sgd")
    assert model.evaluate(X, verbose=0) == [2.0, 4.0, 3.0, 1.0]
    assert model.metrics_names == ["alpha", "loss", "mae", "zeta"]
