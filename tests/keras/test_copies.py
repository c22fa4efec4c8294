"""Pickles and deep copies of layers and models: whole, and on their own from then on."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import distopt as tf
from distopt import keras
from distopt.distribute import VirtualStrategy
from distopt.keras import layers as L

X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
Y = np.ones(8, np.float32)

WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "oldest": lambda value: pickle.loads(pickle.dumps(value, 2)),
    "deepcopy": copy.deepcopy,
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


class Tower(keras.Model):
    """A model of its own kind, with a loss of its own in each call."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = [keras.Sequential([L.Dense(4, "relu"), L.BatchNormalization()]), L.Dense(1)]
        self.scale = tf.Variable(2.0)

    def call(self, inputs: Any) -> Any:
        hidden = self.parts[0](inputs)
        self.add_loss(np.mean(hidden**2))
        return self.parts[1](hidden) * self.scale


def sequential() -> Any:
    return keras.Sequential(
        [
            L.Dense(4, "relu", kernel_regularizer="l2", kernel_constraint="non_neg"),
            L.BatchNormalization(),
            L.Dropout(0.5, seed=1),
            L.Dense(1),
        ]
    )


def step(model: Any) -> None:
    with tf.GradientTape() as tape:
        loss = np.mean(model(X, training=True) ** 2) + sum(model.losses)
    weights = model.trainable_weights
    keras.optimizers.SGD(0.1).apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))


def values(model: Any) -> list[Any]:
    return [weight.tolist() for weight in model.get_weights()]


@ways
@pytest.mark.parametrize("make", [sequential, Tower])
def test_a_copy_has_all_weights_and_shares_none(make: Any, way: Any) -> None:
    model = make()
    step(model)
    model.trainable_weights[0].assign(model.trainable_weights[0] * 1)
    twin = way(model)
    assert values(twin) == values(model)
    assert [w.name for w in twin.weights] == [w.name for w in model.weights]
    assert [w.trainable for w in twin.weights] == [w.trainable for w in model.weights]
    assert twin.predict(X).tolist() == model.predict(X).tolist()
    before = values(model)
    step(twin)
    assert values(model) == before != values(twin)
    step(model)
    for one, other in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@ways
def test_an_unbuilt_model_is_copied_too(way: Any) -> None:
    twin = way(sequential())
    assert not twin.built
    assert twin(X).shape == (8, 1)
    twin.add(L.Dense(2))
    assert twin(X).shape == (8, 2)
    assert len(twin.trainable_weights) == 8


@ways
def test_frozen_layers_stay_frozen(way: Any) -> None:
    model = sequential()
    model.build((None, 3))
    model.layers[0].trainable = False
    assert [layer.trainable for layer in way(model).layers] == [False, True, True, True]


@ways
def test_a_compiled_model_is_copied_with_optimizer_and_flags(way: Any) -> None:
    model = sequential()
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(X, Y, epochs=2, verbose=0)
    model.layers[0].trainable = False
    twin = way(model)
    assert int(twin.optimizer.iterations) == 2
    assert twin.optimizer is not model.optimizer
    kernel = twin.get_weights()[0]
    histories = [m.fit(X, Y, shuffle=False, verbose=0).history for m in (twin, model)]
    assert histories[0] == histories[1]
    assert values(twin) == values(model)
    assert (kernel != twin.get_weights()[0]).any()
    assert (int(twin.optimizer.iterations), int(model.optimizer.iterations)) == (3, 3)


@ways
def test_a_copy_of_a_model_made_in_scope_belongs_to_where_it_is_made(way: Any) -> None:
    two = VirtualStrategy(2)
    with two.scope():
        shared = sequential()
        shared.build((None, 3))
    found: list[Any] = []

    def program() -> None:
        rank = tf.distribute.get_replica_context().replica_id_in_sync_group
        shared(X + rank, training=True)  # each replica has moving averages of its own
        own = way(shared)
        own.weights[0].assign(np.full((3, 4), rank))  # which replicas that share it may not
        found.append((values(own)[4:6] == values(shared)[4:6], values(own)[0][0][0]))

    two.run(program)
    assert sorted(found) == [(True, 0.0), (True, 1.0)]
    outside = way(shared)
    assert values(outside) == values(shared)


@ways
def test_a_variable_keeps_what_it_was_made_with(way: Any) -> None:
    variable = tf.Variable(
        np.arange(3.0),
        name="v",
        trainable=False,
        constraint=keras.constraints.NonNeg(),
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.MEAN,
    )
    variable.assign([4.0, 5.0, 6.0])
    twin = way(variable)
    twin.assign_add([1.0, 1.0, 1.0])
    assert (variable.numpy().tolist(), twin.numpy().tolist()) == ([4.0, 5.0, 6.0], [5.0, 6.0, 7.0])
    assert (twin.name, twin.trainable, twin.dtype) == ("v:0", False, np.float64)
    assert (twin.synchronization, twin.aggregation) == (variable.synchronization, variable.aggregation)
    assert type(twin.constraint) is keras.constraints.NonNeg
