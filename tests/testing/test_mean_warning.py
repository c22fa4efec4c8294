"""Gradients of a per-replica mean under SUM: said once, with what to do."""

import logging

import numpy as np
import pytest

import distopt as tf
from distopt import keras
from distopt.autodiff import gather
from distopt.distribute import VirtualStrategy, get_replica_context

X = np.arange(8, dtype="f4").reshape(4, 2)


def messages(caplog, program, size=2):
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="distopt"):
        VirtualStrategy(size).run(program)
    return [r.getMessage() for r in caplog.records if "looks like a mean" in r.getMessage()]


def minimized(loss, steps=3, **arguments):
    def program():
        v = tf.Variable(np.ones((4, 2), "f4"))
        optimizer = tf.optimizers.SGD(0.1, **arguments)
        for _ in range(steps):
            optimizer.minimize(lambda: loss(v), [v])

    return program


MEANS = {
    "np.mean": lambda v: np.mean(v * X),
    "method": lambda v: (v * X).mean(),
    "reduce_mean": lambda v: tf.math.reduce_mean(v * X),
    "of losses": lambda v: np.mean(keras.losses.mse(X, v)),
    "average": lambda v: np.average(v * X),
    "sparse": lambda v: np.mean(gather(v, np.array([0, 2]))),
}
OTHERS = {
    "sum": lambda v: np.sum(v * X),
    "sum by the global batch": lambda v: np.sum(v * X) / 8,
    "mean by the replicas": lambda v: np.mean(v * X) / 2,
    "one mean a sample": lambda v: np.mean(v * X, axis=-1),
    "not reduced": lambda v: v * X,
}


@pytest.mark.parametrize("name", MEANS)
def test_a_mean_is_told_once(caplog, name):
    (text,) = messages(caplog, minimized(MEANS[name]))
    assert "over 2 replicas" in text
    assert "gradient_aggregator='mean'" in text


@pytest.mark.parametrize("name", OTHERS)
def test_other_losses_are_not(caplog, name):
    assert messages(caplog, minimized(OTHERS[name])) == []


def test_not_where_it_is_right(caplog):
    mean = MEANS["np.mean"]
    assert messages(caplog, minimized(mean), size=1) == []
    assert messages(caplog, minimized(mean, gradient_aggregator="mean")) == []
    assert messages(caplog, minimized(mean, gradient_aggregator="weighted_mean")) == []
    assert len(messages(caplog, minimized(mean, gradient_aggregator="sum"))) == 1


def tape_steps(change, aggregate=True):
    def program():
        v = tf.Variable(np.ones((4, 2), "f4"))
        optimizer = tf.optimizers.Adam()
        for _ in range(2):
            with tf.GradientTape() as tape:
                loss = np.mean(v * X)
            gradient = change(tape.gradient(loss, v))
            optimizer.apply_gradients([(gradient, v)], experimental_aggregate_gradients=aggregate)

    return program


def test_a_loop_of_ones_own(caplog):
    assert len(messages(caplog, tape_steps(lambda g: g))) == 1
    assert messages(caplog, tape_steps(lambda g: g / 2)) == []
    reduced = lambda g: get_replica_context().all_reduce("mean", g)  # noqa: E731
    assert messages(caplog, tape_steps(reduced, aggregate=False)) == []


def test_weights_of_the_elements_are_the_users_own(caplog):
    def program():
        v = tf.Variable(np.ones((4, 2), "f4"))
        tf.optimizers.SGD(0.1).minimize(lambda: np.mean(v * X), [v], grad_loss=np.float32(0.5))

    assert messages(caplog, program) == []


@pytest.mark.parametrize(
    "loss", ["mse", "categorical_crossentropy", lambda y, p: np.mean((y - p) ** 2, axis=-1)]
)
def test_fit_is_right_and_silent(caplog, loss):
    def program():
        model = keras.Sequential([keras.layers.Dense(2, activation="softmax", input_shape=(2,))])
        model.compile(loss=loss, optimizer="sgd")
        model.fit(X, np.eye(2, dtype="f4")[[0, 1, 1, 0]], epochs=2, batch_size=2, verbose=0)

    assert messages(caplog, program) == []
