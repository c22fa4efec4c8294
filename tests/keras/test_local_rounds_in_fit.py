"""fit() with LocalSGD and DiLoCo: 2 pretended nodes of 2 replicas."""

import numpy as np
import pytest

from distopt import keras
from distopt.optimizers import SGD, DiLoCo, LocalSGD
from tests.replicated import on_replicas

X = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)
Y = (X @ np.array([[1.0], [-2.0], [0.5]], np.float32) + 0.25).astype(np.float32)


@pytest.fixture(autouse=True)
def nodes(monkeypatch):
    monkeypatch.setenv("DISTOPT_NODES", "2")


def fitted(make, batch=8, epochs=2, **options):
    """The weights at the end, and what fit() and evaluate() said."""

    def program():
        model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="ones", input_shape=(3,))])
        model.compile(make(), loss="mse")
        history = model.fit(
            X, Y, batch_size=batch, epochs=epochs, shuffle=False, verbose=0, validation_data=(X, Y), **options
        )
        return model.get_weights(), history.history, model.evaluate(X, Y, verbose=0)

    return on_replicas(4, program)


def mean(**kwargs):
    return SGD(0.125, gradient_aggregator="mean", **kwargs)


def test_a_round_of_one_step_is_fit_with_the_inner_optimizer():
    plain = fitted(lambda: SGD(0.125, momentum=0.0))
    local = fitted(lambda: LocalSGD(mean(), every=1))
    for found, expected in zip(local[3][0], plain[0][0], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(local[0][1]["loss"], plain[0][1]["loss"], rtol=1e-5)


@pytest.mark.parametrize("make", [lambda: LocalSGD(mean(), every=4), lambda: DiLoCo(mean(), every=4)])
def test_at_the_end_all_replicas_have_the_same_weights(make):
    found = fitted(make, epochs=3)  # 18 steps: the last round is a short one
    for weights, history, loss in found:
        assert all(map(np.array_equal, weights, found[0][0]))
        assert (history, loss) == found[0][1:]
        assert loss < history["loss"][0] / 4
