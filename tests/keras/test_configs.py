"""Layers and models as configs: the same again from JSON, without weights."""

import json

import numpy as np
import pytest

from distopt import keras
from distopt.keras import layers as L

#: Each layer with arguments that are not the defaults, and the shape of an input.
EACH = {
    "Activation": (lambda: L.Activation("selu"), (5, 3)),
    "AveragePooling2D": (lambda: L.AveragePooling2D((2, 3), 1, "same"), (2, 8, 7, 3)),
    "BatchNormalization": (
        lambda: L.BatchNormalization(momentum=0.7, center=False, moving_mean_initializer="ones"),
        (5, 3),
    ),
    "Conv2D": (
        lambda: L.Conv2D(4, (2, 3), 2, "same", "tanh", kernel_regularizer="l2", bias_initializer="ones"),
        (2, 8, 7, 3),
    ),
    "Dense": (
        lambda: L.Dense(
            4,
            "softmax",
            kernel_initializer=keras.initializers.RandomNormal(0.1, 0.2, seed=3),
            kernel_regularizer=keras.regularizers.L1L2(0.1, 0.2),
            kernel_constraint="unit_norm",
            bias_initializer=keras.initializers.Constant(0.5),
            dtype="float64",
            trainable=False,
        ),
        (5, 3),
    ),
    "Dropout": (lambda: L.Dropout(0.3, seed=5), (5, 3)),
    "Embedding": (lambda: L.Embedding(9, 4, "ones", input_length=3), (5, 3)),
    "Flatten": (L.Flatten, (5, 2, 3)),
    "GlobalAveragePooling2D": (L.GlobalAveragePooling2D, (2, 8, 7, 3)),
    "InputLayer": (lambda: L.Input((3,), dtype="float64"), (5, 3)),
    "LayerNormalization": (lambda: L.LayerNormalization(epsilon=0.1, scale=False), (5, 3)),
    "MaxPooling2D": (lambda: L.MaxPooling2D(3, 2, "same"), (2, 8, 7, 3)),
    "Reshape": (lambda: L.Reshape((3, -1)), (5, 2, 6)),
}


class Scale(L.Layer):
    """A user's own."""

    def __init__(self, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def again(config):
    return json.loads(json.dumps(config))


def network():
    return keras.Sequential(
        [
            L.Conv2D(3, 3, activation="relu", input_shape=(8, 8, 1)),
            L.BatchNormalization(),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dropout(0.5, seed=1),
            L.Dense(4, "softmax", kernel_regularizer="l2"),
        ],
        name="net",
    )


def test_no_layer_is_left_out():
    classes = [getattr(L, name) for name in L.__all__ if isinstance(getattr(L, name), type)]
    shipped = {c.__name__ for c in classes if issubclass(c, L.Layer)} - {"Layer"}
    assert set(EACH) == shipped


@pytest.mark.parametrize("name", EACH)
def test_a_layer_comes_back_from_its_config(name):
    make, shape = EACH[name]
    layer, inputs = make(), np.arange(np.prod(shape), dtype="f4").reshape(shape) % 9
    wanted = np.asarray(layer(inputs))
    config = again(L.serialize(layer))
    assert config["class_name"] == name
    copy = L.deserialize(config)
    assert again(L.serialize(copy)) == config
    got = np.asarray(copy(inputs))  # builds it
    assert [w.name for w in copy.weights] == [w.name for w in layer.weights]
    assert [w.trainable for w in copy.weights] == [w.trainable for w in layer.weights]
    copy.set_weights(layer.get_weights())
    got = np.asarray(copy(inputs))
    assert got.dtype == wanted.dtype
    assert got.tobytes() == wanted.tobytes()
    assert len(copy.losses) == len(layer.losses)


@pytest.mark.parametrize("name", EACH)
def test_the_common_arguments_are_kept(name):
    make, shape = EACH[name]
    config = {
        **make().get_config(),
        "name": "mine",
        "trainable": False,
        "batch_input_shape": [None, *shape[1:]],
    }
    copy = type(make()).from_config(config)
    assert again(copy.get_config()) == again(config)
    assert keras.Sequential([copy, L.Activation("linear")]).built


def test_keys_are_those_of_keras():
    dense = L.Dense(3, input_shape=(2,), name="d").get_config()
    assert dense["batch_input_shape"] == [None, 2]
    assert dense["activation"] == "linear"
    assert dense["kernel_initializer"] == {"class_name": "GlorotUniform", "config": {"seed": None}}
    assert dense["bias_regularizer"] is None
    conv = L.Conv2D(3, 2).get_config()
    assert (conv["kernel_size"], conv["strides"]) == ([2, 2], [1, 1])


def test_a_sequential_comes_back_with_the_same_outputs():
    model, x = network(), np.random.default_rng(1).normal(size=(4, 8, 8, 1)).astype("f4")
    for copy in (
        keras.models.model_from_json(model.to_json()),
        keras.models.model_from_config({"class_name": "Sequential", "config": model.get_config()}),
        keras.Sequential.from_config(model.get_config()),
        keras.models.clone_model(model),
    ):
        assert copy.name == "net"
        assert not np.array_equal(copy.get_weights()[0], model.get_weights()[0])
        copy.set_weights(model.get_weights())
        assert np.asarray(copy(x)).tobytes() == np.asarray(model(x)).tobytes()
        assert copy.to_json() == model.to_json()


def test_a_model_built_by_its_first_call_is_built_again():
    model = keras.Sequential([L.Dense(3), L.Dense(2)])
    assert "build_input_shape" not in model.get_config()
    model(np.ones((5, 4), "f4"))
    copy = keras.models.model_from_json(model.to_json(indent=1))
    assert [w.shape for w in copy.weights] == [w.shape for w in model.weights]


def test_models_within_models():
    inner = keras.Sequential([L.Dense(3, input_shape=(4,))], name="inner")
    model = keras.Sequential([inner, L.Dense(2)])
    model(np.ones((1, 4), "f4"))
    copy = keras.models.model_from_json(model.to_json())
    assert [w.shape for w in copy.weights] == [w.shape for w in model.weights]


def test_layers_and_functions_of_the_users_own():
    def twice(x):
        return 2 * x

    model = keras.Sequential([Scale(3.0, input_shape=(2,)), L.Dense(2, activation=twice)])
    own = {"Scale": Scale, "twice": twice}
    with pytest.raises(ValueError, match=r"Unknown layer: Scale\."):
        keras.models.model_from_json(model.to_json())
    copy = keras.models.model_from_json(model.to_json(), custom_objects=own)
    copy.set_weights(model.get_weights())
    x = np.ones((1, 2), "f4")
    assert np.asarray(copy(x)).tobytes() == np.asarray(model(x)).tobytes()


def test_what_has_no_config_says_so():
    class Shift(L.Layer):
        def __init__(self, by, **kwargs):
            super().__init__(**kwargs)
            self.by = by

    with pytest.raises(NotImplementedError, match=r"Shift\) has arguments in __init__, \['by'\]"):
        Shift(1).get_config()

    class Net(keras.Model):
        pass

    with pytest.raises(NotImplementedError, match="class Net, whose code defines its layers"):
        Net().to_json()


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        ({"class_name": "Dens", "config": {}}, ValueError, "Unknown layer: Dens. Did you mean 'Dense'?"),
        ({"class_name": "Dense", "config": {"unit": 3}}, TypeError, "unit"),
        ({"class_name": "Dense", "config": [3]}, TypeError, "Dense"),
        ({"config": {}}, ValueError, "Improper config format"),
        (3, ValueError, "Improper config format"),
    ],
)
def test_wrong_configs(config, error, words):
    with pytest.raises(error) as caught:
        L.deserialize(config)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", None, "[]", '{"class_name": "Sequental", "config": {}}'])
def test_wrong_texts(text):
    with pytest.raises(ValueError, match=r"JSON str|Improper config|Did you mean 'Sequential'"):
        keras.models.model_from_json(text)


def test_unknown_names_are_found_when_the_layer_is_made():
    with pytest.raises(ValueError, match="Did you mean 'he_normal'"):
        L.Dense(3, kernel_initializer="he_norml")
    with pytest.raises(ValueError, match="Did you mean 'relu'"):
        L.Dense(3, activation="ReLU")
    with pytest.raises(ValueError, match=r"Did you mean 'l[12]'"):
        L.Dense(3, kernel_regularizer="l3")
