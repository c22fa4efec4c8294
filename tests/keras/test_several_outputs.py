"""Models of several outputs: each loss is exact, and finds the logits behind its own output."""

import gc

import numpy as np
import pytest

from distopt import keras
from distopt.autodiff import GradientTape
from distopt.keras import layers as L
from distopt.keras.layers import logits


class Heads(keras.Model):
    """Three heads on one input; the second one's probabilities are exactly 0 and 1 in float32."""

    def __init__(self):
        super().__init__()
        self.first = L.Dense(3, "softmax", kernel_initializer="ones", bias_initializer="zeros")
        self.second = L.Dense(2, "softmax", kernel_initializer=sharp)
        self.third = L.Dense(1, "sigmoid", kernel_initializer="zeros")

    def call(self, x):
        return [self.first(x), self.second(x), self.third(x)]


def sharp(shape, dtype=None):
    return np.broadcast_to(np.array([200.0, -200.0], dtype), shape)


@pytest.fixture
def model():
    model = Heads()
    losses = ["sparse_categorical_crossentropy", "sparse_categorical_crossentropy", "binary_crossentropy"]
    model.compile("sgd", losses)
    return model


def test_every_cross_entropy_is_taken_from_the_logits(model):
    x = np.ones((4, 1), "f4")
    y = [np.zeros(4, int), np.ones(4, int), np.ones((4, 1))]
    result = model.evaluate(x, y, verbose=0, return_dict=True)
    # Of probabilities, which are clipped, the second one could not be above 16.2.
    assert result["output_1_loss"] == pytest.approx(np.log(3), rel=1e-6)
    assert result["output_2_loss"] == pytest.approx(400, rel=1e-6)
    assert result["output_3_loss"] == pytest.approx(np.log(2), rel=1e-6)


def test_their_gradients_do_not_vanish(model):
    x, y = np.ones((4, 1), "f4"), [np.zeros(4, int), np.ones(4, int), np.ones((4, 1))]
    model(x)
    with GradientTape() as tape:
        loss = model.compiled_loss(y, model(x, training=True))
    gradient = np.asarray(tape.gradient(loss, model.second.kernel))
    assert gradient[0] == pytest.approx([1.0, -1.0], rel=1e-6)


def test_logits_are_kept_only_as_long_as_their_probabilities(model):
    gc.collect()
    before = len(logits._known)
    with GradientTape():
        outputs = model(np.ones((4, 1), "f4"))
    assert len(logits._known) == before + 3
    del outputs
    gc.collect()
    assert len(logits._known) == before
