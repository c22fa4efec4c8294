"""Sequential: building, changing, its input, names and casts; weights that are made later."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distopt import keras
from distopt.distribute import VirtualStrategy
from distopt.keras import layers as L

X = np.random.default_rng(2).normal(size=(40, 3)).astype(np.float32)


def test_sequential_is_built_by_input_shape_or_by_the_first_call() -> None:
    early = keras.Sequential([L.Dense(4, input_shape=(3,)), L.Dense(2)])
    late = keras.Sequential([L.Dense(4), L.Dense(2)])
    assert [w.shape for w in early.weights] == [(3, 4), (4,), (4, 2), (2,)]
    assert (early.built, late.built) == (True, False)
    late(X)
    assert [w.shape for w in late.weights] == [w.shape for w in early.weights]
    explicit = keras.Sequential([L.Dense(4), L.Dense(2)])
    explicit.build((None, 3))
    assert explicit.count_params() == early.count_params() == 26
    behind_input = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    assert behind_input.built
    assert behind_input.weights[0].name.endswith("/kernel:0")


def test_weights_stand_layer_after_layer() -> None:
    model = keras.Sequential([L.BatchNormalization(input_shape=(3,)), L.Dense(2)])
    names = [w.name.split("/")[1] for w in model.weights]
    assert names == ["gamma:0", "beta:0", "moving_mean:0", "moving_variance:0", "kernel:0", "bias:0"]
    assert [w.name.split("/")[1] for w in model.trainable_weights] == ["gamma:0", "beta:0", *names[4:]]


def test_sequential_changes() -> None:
    model = keras.Sequential([L.Dense(4, input_dim=3)])
    layer = L.Dense(2)
    model.add(layer)
    assert model(X).shape == (40, 2)
    with pytest.raises(ValueError, match="already"):
        model.add(layer)
    model.pop()
    assert model(X).shape == (40, 4)
    with pytest.raises(TypeError, match="takes layers"):
        model.add("dense")
    with pytest.raises(ValueError, match=r"\(Conv2D\) takes images"):
        model.add(L.Conv2D(2, 3))
    with pytest.raises(ValueError, match="has no layers"):
        keras.Sequential()(X)


def test_names_in_a_sequential_are_unique() -> None:
    with pytest.raises(ValueError, match="has a layer named 'a' already"):
        keras.Sequential([L.Dense(1, name="a"), L.Dense(2, name="a")])
    shared = [L.Dense(1), L.Dense(1)]  # made for all replicas, then named by each for itself

    def program() -> list[str]:
        return [layer.name for layer in keras.Sequential([*shared, L.Dense(1)]).layers]

    names = VirtualStrategy(2).run(program)  # one list, since the replicas' are equal
    assert len(set(names)) == len(names) == 3


def test_an_input_is_no_layer_of_the_model_but_of_its_config() -> None:
    """As in Keras; a second model from the config takes the same inputs."""
    model = keras.Sequential([keras.Input((3,), name="features"), L.Dense(2)])
    assert [layer.name for layer in model.layers] == [model.layers[0].name]
    assert [each["class_name"] for each in model.get_config()["layers"]] == ["InputLayer", "Dense"]
    again = keras.Sequential.from_config(model.get_config())
    assert again.built
    assert again.get_config() == model.get_config()
    model.pop()
    with pytest.raises(TypeError, match="no layers"):
        model.pop()
    model.add(L.Dense(5))
    assert model.get_weights()[0].shape == (3, 5)


@pytest.mark.parametrize("first", [{"input_shape": (1,)}, {}])
@pytest.mark.parametrize("with_input", [True, False])
def test_a_sequential_leaves_casts_to_its_layers(first: Any, with_input: bool) -> None:
    dense = L.Dense(1, dtype="float64", kernel_initializer="ones", **({} if with_input else first))
    model = keras.Sequential([keras.Input((1,), dtype="float64"), dense] if with_input else [dense])
    x = np.array([[1 + 2.0**-40]])
    assert model(x).numpy().tolist() == model.predict(x).tolist() == x.tolist()
    narrow = keras.Sequential([keras.Input((1,), dtype="float32"), L.Dense(1, dtype="float64")])
    narrow.set_weights([np.ones((1, 1)), np.zeros(1)])
    assert narrow(x).numpy().tolist() == [[1.0]]


ONES = np.ones((4, 3), np.float32)

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
        lambda: np.sum(model(ONES)), model.trainable_weights
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
    model(ONES)
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
    keras.optimizers.SGD(1.0).minimize(lambda: np.sum(model(ONES)), lambda: model.trainable_weights)
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
    model.fit(ONES, np.ones(4), verbose=0)
    assert model.trained == 4
