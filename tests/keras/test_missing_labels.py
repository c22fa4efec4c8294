"""Labels that a loss or a metric needs and nobody gave are told of before training."""

from typing import Any

import numpy as np
import pytest

from distopt import keras
from distopt.keras import layers as L

X = np.arange(8.0).reshape(8, 1) / 16


class Added(keras.Model):
    """Adds its loss itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first = L.Dense(1, kernel_initializer="ones")

    def call(self, x: Any) -> Any:
        self.add_loss(np.mean(x**2))
        return self.first(x)


CALLS = {
    "fit": lambda model: model.fit(X, verbose=0),
    "batches": lambda model: model.fit([(X,)], verbose=0),
    "validation": lambda model: model.fit(X, X, validation_data=X, verbose=0),
    "evaluate": lambda model: model.evaluate(X, verbose=0),
    "train_on_batch": lambda model: model.train_on_batch(X),
    "test_on_batch": lambda model: model.test_on_batch(X),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"loss": "mse"}, "loss needs"),
        ({"metrics": ["mae"]}, "metrics need"),
        ({"weighted_metrics": {"output_1": "mae"}}, "metrics need"),
    ],
)
def test_they_are_told_of_before_training(call: str, given: dict[str, Any], what: str) -> None:
    model = Added()
    model.compile("sgd", **given)
    model.build((None, 1))
    before = model.get_weights()
    with pytest.raises(ValueError, match=rf"was given no labels \(y\), which its {what}"):
        CALLS[call](model)
    assert (model.get_weights()[0] == before[0]).all()


class Own(Added):
    """Has a step that compares with nothing."""

    def train_step(self, data: Any) -> dict[str, Any]:
        return {"mean": np.mean(data[0])}


def test_own_steps_need_none() -> None:
    model = Own()
    model.compile("sgd", "mse", metrics=["mae"])
    assert model.fit(X, verbose=0).history == {"mean": [X.mean()]}
    with pytest.raises(ValueError, match="was given no labels"):
        model.evaluate(X, verbose=0)
