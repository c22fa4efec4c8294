"""Losses by name and config, of the user's own, behind activations; and what they refuse."""

import numpy as np
import pytest

import distopt.keras.losses as L
from distopt.autodiff import GradientTape
from distopt.core import Tensor, Variable
from distopt.core.custom_objects import custom_object_scope

ALL = [
    L.MeanSquaredError,
    L.MeanAbsoluteError,
    L.MeanAbsolutePercentageError,
    L.MeanSquaredLogarithmicError,
    L.BinaryCrossentropy,
    L.CategoricalCrossentropy,
    L.SparseCategoricalCrossentropy,
    L.Hinge,
    L.SquaredHinge,
    L.CategoricalHinge,
    L.Huber,
    L.LogCosh,
    L.KLDivergence,
    L.Poisson,
    L.CosineSimilarity,
]


@pytest.mark.parametrize("cls", ALL, ids=lambda c: c.__name__)
def test_config(cls):
    loss = cls(reduction="sum", name="mine")
    config = loss.get_config()
    assert list(config)[:2] == ["reduction", "name"]
    again = L.deserialize(L.serialize(loss))
    assert type(again) is cls
    assert again.get_config() == config
    assert isinstance(L.get(cls.__name__), cls)


def test_config_of_own_arguments():
    assert L.Huber(0.5).get_config() == {"reduction": "auto", "name": "huber_loss", "delta": 0.5}
    assert L.BinaryCrossentropy(label_smoothing=0.1).get_config() == {
        "reduction": "auto",
        "name": "binary_crossentropy",
        "from_logits": False,
        "label_smoothing": 0.1,
    }


@pytest.mark.parametrize(
    ("name", "fn"),
    [
        ("mse", L.mean_squared_error),
        ("MSE", L.mean_squared_error),
        ("mae", L.mean_absolute_error),
        ("mape", L.mean_absolute_percentage_error),
        ("msle", L.mean_squared_logarithmic_error),
        ("bce", L.binary_crossentropy),
        ("kld", L.kl_divergence),
        ("logcosh", L.log_cosh),
        ("huber", L.huber),
        ("cosine_similarity", L.cosine_similarity),
        ("sparse_categorical_crossentropy", L.sparse_categorical_crossentropy),
    ],
)
def test_get_function(name, fn):
    assert L.get(name) is fn
    assert L.for_model(name).name == fn.__name__


def test_get():
    assert L.get(None) is None
    assert L.get(np.tanh) is np.tanh
    with pytest.raises(
        ValueError, match=r"Unknown loss function: mean_square_error\. Did you mean 'mean_squared_error'"
    ):
        L.get("mean_square_error")
    with pytest.raises(ValueError, match="Could not interpret"):
        L.get(3)
    with custom_object_scope({"mine": np.tanh}):
        assert L.get("mine") is np.tanh


class Cubed(L.Loss):
    def call(self, y_true, y_pred):
        return np.mean(np.abs(y_pred - y_true) ** 3, axis=-1)


def test_user_loss():
    y_pred = Variable([[2.0, 0.0], [0.0, 1.0]])
    with GradientTape() as tape:
        value = Cubed()(np.zeros((2, 2), np.float32), y_pred, sample_weight=[1.0, 2.0])
    assert isinstance(np.asarray(value), np.ndarray)
    assert float(value) == 2.5
    np.testing.assert_allclose(tape.gradient(value, y_pred).numpy(), [[3.0, 0.0], [0.0, 1.5]])
    assert isinstance(L.deserialize(L.serialize(Cubed()), {"Cubed": Cubed}), Cubed)
    with pytest.raises(NotImplementedError, match="must override call"):
        L.Loss()(1.0, 2.0)


def test_for_model():
    assert L.for_model(L.Huber).name == "huber_loss"
    assert L.for_model("mse").name == "mean_squared_error"
    assert L.for_model(lambda t, p: (t - p)[:, 0])(np.ones((2, 1)), np.zeros((2, 1))) == 1.0
    with pytest.raises(ValueError, match="cannot be trained without a loss"):
        L.for_model(None)


@pytest.mark.parametrize(
    ("identifier", "activation"),
    [
        ("categorical_crossentropy", "softmax"),
        (L.SparseCategoricalCrossentropy(reduction="sum"), "softmax"),
        (L.BinaryCrossentropy(label_smoothing=0.1), "sigmoid"),
    ],
)
def test_logits_behind_an_activation(identifier, activation):
    loss = L.for_model(identifier)
    behind = L.behind_activation(loss, activation)
    logits = np.random.default_rng(7).normal(size=(5, 4))
    exp = np.exp(logits)
    outputs = exp / exp.sum(-1, keepdims=True) if activation == "softmax" else exp / (1 + exp)
    labels = np.array([0, 1, 2, 3, 0]) if "Sparse" in type(loss).__name__ else np.eye(4)[[0, 1, 2, 3, 0]]
    assert float(behind(labels, logits)) == pytest.approx(float(loss(labels, outputs)), rel=1e-5)
    assert behind.name == loss.name
    assert L.behind_activation(behind, activation) is None
    assert L.behind_activation(loss, "relu") is None
    assert L.behind_activation(L.for_model("mse"), activation) is None
    assert L.behind_activation(Cubed(), activation) is None


# -- wrong input
@pytest.mark.parametrize("bad", [-1, 4])
def test_label_out_of_range(bad):
    with pytest.raises(ValueError, match=f"got label {bad}; with 4 classes labels go from 0 to 3"):
        L.sparse_categorical_crossentropy([0, bad], np.zeros((2, 4)), from_logits=True)


def test_shapes_of_labels():
    with pytest.raises(ValueError, match="For one-hot labels use categorical_crossentropy"):
        L.sparse_categorical_crossentropy(np.zeros((2, 4)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="use sparse_categorical_crossentropy"):
        L.categorical_crossentropy(np.zeros((2,)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="one shape"):
        L.binary_crossentropy(np.zeros((2, 1)), np.zeros((2, 4)), from_logits=True)


def test_lists_are_float32():
    assert L.mse([[0, 1]], [[1, 1]]).dtype == np.float32
    assert isinstance(L.mse([[0.0, 1.0]], [[1.0, 1.0]]), Tensor)
