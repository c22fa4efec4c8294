"""Models, metrics and layers with state made in a strategy's scope, one for all replicas of the process."""

import numpy as np
import pytest

import distopt as tf
from distopt import keras
from distopt.keras import callbacks as C
from distopt.keras import layers as L

SEED = 3
X = np.random.default_rng(0).normal(size=(16, 4)).astype("f4")
Y = np.random.default_rng(1).integers(3, size=16)
STEPS = 3


def network(built=True):
    first = {"input_shape": (4,)} if built else {}
    return keras.Sequential(
        [
            L.Dense(8, "relu", kernel_initializer=keras.initializers.GlorotUniform(1), **first),
            L.Dropout(0.5, seed=SEED),
            L.BatchNormalization(momentum=0.5),
            L.Dense(3, "softmax", kernel_initializer=keras.initializers.GlorotUniform(2)),
        ]
    )


class Training:
    """What a user makes, and one step with it."""

    def __init__(self, built=True):
        self.model = network(built)
        self.optimizer = keras.optimizers.Adam(0.05)
        self.accuracy = keras.metrics.SparseCategoricalAccuracy()
        self.mean = keras.metrics.Mean()
        self.loss = keras.losses.SparseCategoricalCrossentropy(reduction="none")

    def step(self):
        context = tf.distribute.get_replica_context()
        replica, replicas = context.replica_id_in_sync_group, context.num_replicas_in_sync
        x, y = X[replica::replicas], Y[replica::replicas]
        with tf.GradientTape() as tape:
            predicted = self.model(x, training=True)
            losses = self.loss(y, predicted)
            loss = np.sum(losses) / np.float32(len(X))
        variables = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        self.accuracy.update_state(y, predicted)
        self.mean.update_state(losses)

    def weights(self):
        return [np.asarray(w).tobytes() for w in self.model.weights]

    def results(self):
        return float(self.accuracy.result()), float(self.mean.result())


def each(strategy, function):
    """What a function returns on each replica."""
    found = {}

    def program():
        found[tf.distribute.get_replica_context().replica_id_in_sync_group] = function()

    strategy.run(program)
    return [found[replica] for replica in sorted(found)]


def one_for_each(replicas):
    """The same with objects of each replica's own, as in processes."""

    def program():
        training = Training()
        for _ in range(STEPS):
            training.step()
        return training.weights(), training.results()

    return each(tf.distribute.VirtualStrategy(replicas), program)


@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("replicas", [2, 4])
def test_objects_of_all_replicas_do_as_those_of_each(replicas, built):
    strategy = tf.distribute.VirtualStrategy(replicas)
    with strategy.scope():
        training = Training(built)
    for _ in range(STEPS):
        strategy.run(training.step)
    separate = one_for_each(replicas)
    assert each(strategy, lambda: (training.weights(), training.results())) == separate
    # Between replicas a metric's result is that of all of them, and a moving average their mean.
    assert training.results() == separate[0][1]
    assert training.optimizer.iterations.numpy() == STEPS
    moving = training.model.layers[2].moving_mean
    own = each(strategy, moving.numpy)
    assert np.asarray(moving).tolist() == pytest.approx(np.mean(own, axis=0), rel=1e-6)


def test_dropout_draws_each_replicas_own_numbers_and_its_state_is_the_replicas():
    strategy = tf.distribute.VirtualStrategy(2)
    with strategy.scope():
        layer = L.Dropout(0.5, seed=SEED)

    def draw():
        return np.asarray(layer(np.ones((4, 5), "f4"), training=True)).tolist()

    first, second = each(strategy, draw)
    assert first != second
    states = each(strategy, layer.get_state)
    third = each(strategy, draw)
    assert third[0] != first

    def again():
        layer.set_state({"seed": SEED, "calls": 1})
        return draw()

    assert each(strategy, again) == third
    assert states == [{"seed": SEED, "calls": 1}] * 2


def compiled(built=True, steps_per_update=1):
    model = network(built)
    model.compile(
        keras.optimizers.SGD(0.5),
        "sparse_categorical_crossentropy",
        ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2)],
        steps_per_update=steps_per_update,
    )
    return model


def fitted(model, callbacks):
    """What training, evaluation and prediction tell; 16 examples in batches of 5."""
    history = model.fit(
        X, Y, batch_size=5, epochs=4, validation_data=(X, Y), callbacks=callbacks(), verbose=0
    )
    weights = [w.tolist() for w in model.get_weights()]
    return history.history, weights, model.evaluate(X, Y, verbose=0), model.predict(X).tolist()


CALLBACKS = {
    "none": lambda: [],
    "best weights": lambda: [C.EarlyStopping(patience=2, min_delta=9.0, restore_best_weights=True)],
    "averages": lambda: [C.ExponentialMovingAverage(0.5)],
    "warm-up": lambda: [C.LearningRateWarmup(2)],
    "schedule": lambda: [C.LearningRateScheduler(lambda epoch, rate: rate / 2)],
    "plateau": lambda: [C.ReduceLROnPlateau(patience=1, min_delta=9.0)],
    "batches": lambda: [C.TerminateOnNaN()],
}


@pytest.mark.parametrize("callbacks", CALLBACKS)
def test_fit_of_a_model_of_all_replicas_is_that_of_each_replicas_own(callbacks):
    """The callbacks of all replicas change one optimizer and one set of weights."""
    strategy = tf.distribute.VirtualStrategy(2)
    with strategy.scope():
        shared = compiled()
    together = each(strategy, lambda: fitted(shared, CALLBACKS[callbacks]))
    assert together == each(strategy, lambda: fitted(compiled(), CALLBACKS[callbacks]))
    assert together[0] == together[1]


@pytest.mark.parametrize("options", [{"built": False}, {"steps_per_update": 3}])
def test_fit_of_a_model_of_all_replicas_that_is_built_later_or_updated_seldom(options):
    strategy = tf.distribute.VirtualStrategy(3)
    with strategy.scope():
        shared = compiled(**options)

    def program(model):
        model.train_on_batch(X, Y)
        return fitted(model, CALLBACKS["none"])

    together = each(strategy, lambda: program(shared))
    assert together == each(strategy, lambda: program(compiled(**options)))


def test_a_model_that_replicas_trained_is_evaluated_between_them():
    strategy = tf.distribute.VirtualStrategy(2)
    with strategy.scope():
        shared = compiled()
    *_, evaluated, predicted = each(strategy, lambda: fitted(shared, CALLBACKS["none"]))[0]
    assert shared.evaluate(X, Y, verbose=0) == pytest.approx(evaluated, rel=1e-6)
    np.testing.assert_allclose(shared.predict(X), predicted, rtol=1e-5)


class Activity(L.Layer):
    """Adds the mean of its inputs to the loss."""

    def call(self, inputs):
        self.add_loss(np.mean(inputs))
        return inputs


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_each_replica_sees_the_losses_that_its_own_call_added(replicas):
    strategy = tf.distribute.VirtualStrategy(replicas)
    with strategy.scope():
        # The replicas meet in the second layer, when all have called the first one.
        model = keras.Sequential([Activity(input_shape=(2,)), L.BatchNormalization(synchronized=True)])

    def program():
        mine = tf.distribute.get_replica_context().replica_id_in_sync_group
        for step in range(2):
            model(np.full((3, 2), 10 * step + mine, np.float32), training=True)
            assert [float(loss) for loss in model.losses] == [10 * step + mine]

    strategy.run(program)
