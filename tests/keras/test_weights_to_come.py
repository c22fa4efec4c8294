"""A model that makes its weights later says so, where an empty list would train and save nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distopt import keras
from distopt.keras import layers as L

X = np.ones((4, 3), np.float32)

ASKING = {
    name: lambda model, name=name: getattr(model, name)
    for name in (
        "weights",
        "variables",
        "trainable_weights",
        "trainable_variables",
        "non_trainable_weights",
        "non_trainable_variables",
    )
} | {
    "get_weights": lambda model: model.get_weights(),
    "set_weights": lambda model: model.set_weights([]),
    "count_params": lambda model: model.count_params(),
    "summary": lambda model: model.summary(),
    "minimize": lambda model: keras.optimizers.SGD().minimize(
        lambda: np.sum(model(X)), model.trainable_weights
    ),
}


class Holder(keras.Model):
    """Holds a model in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = keras.Sequential([L.Dense(2)], name="inner")

    def call(self, inputs: Any) -> Any:
        return self.inner(inputs)


class HoldingLayer(L.Layer):
    """Holds a model in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = [keras.Sequential([L.Dense(2)], name="inner")]

    def call(self, inputs: Any) -> Any:
        return self.parts[0](inputs)


@pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)
@pytest.mark.parametrize("make", [lambda: keras.Sequential([L.Dense(2)], name="inner"), Holder, HoldingLayer])
def test_an_unbuilt_sequential_has_no_weights_yet(make: Any, ask: Any) -> None:
    if ask is ASKING["summary"] and make is HoldingLayer:
        return  # a layer has none
    model = make()
    with pytest.raises(ValueError, match=r"Weights for model 'inner' have not yet been created.*build"):
        ask(model)
    model(X)
    if ask is not ASKING["set_weights"]:
        ask(model)


def test_layers_and_own_models_have_those_that_are_made() -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.early = L.Dense(1, input_shape=(3,))
            self.early.build((None, 3))
            self.late = L.Dense(1)

    assert L.Dense(2).weights == []
    assert [w.shape for w in Own().trainable_weights] == [(3, 1), (1,)]


def test_variables_may_be_asked_for_after_the_loss() -> None:
    model = keras.Sequential([L.Dense(1, kernel_initializer="zeros")])
    keras.optimizers.SGD(1.0).minimize(lambda: np.sum(model(X)), lambda: model.trainable_weights)
    assert model.get_weights()[0].tolist() == [[-4.0]] * 3


@pytest.mark.parametrize("make", [lambda: keras.Sequential([L.Dense(2)]), Holder, keras.Model])
def test_no_weights_are_no_file(make: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"[Ww]eights"):
        make().save_weights(tmp_path / "weights.npz")
    assert not list(tmp_path.iterdir())


def test_a_model_with_a_part_that_no_call_has_reached_is_trained() -> None:
    class TwoParts(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.used = keras.Sequential([L.Dense(1)])
            self.later = keras.Sequential([L.Dense(1)])

        def call(self, inputs: Any) -> Any:
            return self.used(inputs)

        def train_step(self, data: Any) -> dict[str, Any]:
            self.later(data[0])
            self.trained = len(self.trainable_weights)
            return {"loss": 0.0}

    model = TwoParts()
    model.compile("sgd", "mse")
    model.fit(X, np.ones(4), verbose=0)
    assert model.trained == 4
