"""The code blocks of the Keras guide "Optimizers", as printed there but for the import lines.

Source: https://keras.io/api/optimizers, guide and page of 2020-12 (the Korean page has the same blocks).
The samples are licensed under the Apache License 2.0, copyright The TensorFlow Authors and Keras authors.
"""

import doctest

import numpy as np
import pytest
from blocks import run

import distopt as tf
from distopt import keras

COMPILE = """
from tensorflow import keras
from tensorflow.keras import layers

model = keras.Sequential()
model.add(layers.Dense(64, kernel_initializer='uniform', input_shape=(10,)))
model.add(layers.Activation('softmax'))

opt = keras.optimizers.Adam(learning_rate=0.01)
model.compile(loss='categorical_crossentropy', optimizer=opt)
"""

COMPILE_BY_NAME = """
# pass optimizer by name: default parameters will be used
model.compile(loss='categorical_crossentropy', optimizer='adam')
"""

CUSTOM_LOOP = """
# Instantiate an optimizer.
optimizer = tf.keras.optimizers.Adam()

# Iterate over the batches of a dataset.
for x, y in dataset:
    # Open a GradientTape.
    with tf.GradientTape() as tape:
        # Forward pass.
        logits = model(x)
        # Loss value for this batch.
        loss_value = loss_fn(y, logits)

    # Get gradients of loss wrt the weights.
    gradients = tape.gradient(loss_value, model.trainable_weights)

    # Update the weights of the model.
    optimizer.apply_gradients(zip(gradients, model.trainable_weights))
"""

SCHEDULE = """
lr_schedule = keras.optimizers.schedules.ExponentialDecay(
    initial_learning_rate=1e-2,
    decay_steps=10000,
    decay_rate=0.9)
optimizer = keras.optimizers.SGD(learning_rate=lr_schedule)
"""

OWN_AGGREGATION = """
grads = tape.gradient(loss, vars)
grads = tf.distribute.get_replica_context().all_reduce('sum', grads)
# Processing aggregated gradients.
optimizer.apply_gradients(zip(grads, vars),
experimental_aggregate_gradients=False)
"""

GET_WEIGHTS = """
>>> opt = tf.keras.optimizers.RMSprop()
>>> m = tf.keras.models.Sequential([tf.keras.layers.Dense(10)])
>>> m.compile(opt, loss='mse')
>>> data = np.arange(100).reshape(5, 20)
>>> labels = np.zeros(5)
>>> print('Training'); results = m.fit(data, labels)
Training ...
>>> len(opt.get_weights())
3
"""

SET_WEIGHTS = """
>>> opt = tf.keras.optimizers.RMSprop()
>>> m = tf.keras.models.Sequential([tf.keras.layers.Dense(10)])
>>> m.compile(opt, loss='mse')
>>> data = np.arange(100).reshape(5, 20)
>>> labels = np.zeros(5)
>>> print('Training'); results = m.fit(data, labels)
Training ...
>>> new_weights = [np.array(10), np.ones([20, 10]), np.zeros([10])]
>>> opt.set_weights(new_weights)
>>> opt.iterations
<tf.Variable 'RMSprop/iter:0' shape=() dtype=int64, numpy=10>
"""


def test_an_optimizer_instance_goes_into_compile_and_trains():
    names = run(COMPILE)
    model, opt = names["model"], names["opt"]
    assert model.optimizer is opt
    assert float(opt.learning_rate) == pytest.approx(0.01)
    x = np.random.default_rng(0).normal(size=(20, 10)).astype(np.float32)
    y = np.eye(64, dtype=np.float32)[np.arange(20)]
    losses = model.fit(x, y, batch_size=10, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert int(opt.iterations) == 20


def test_an_optimizer_by_name_has_the_default_parameters():
    model = run(COMPILE)["model"]
    run(COMPILE_BY_NAME, model=model)
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert model.optimizer.get_config() == keras.optimizers.Adam().get_config()


def dataset():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 12, 3)).astype(np.float32)
    return [(batch, batch @ np.array([[1.0], [-2.0], [0.5]], np.float32)) for batch in x]


def test_the_custom_loop_learns():
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(3,), kernel_initializer="ones")])
    loss_fn = keras.losses.MeanSquaredError()
    before = [float(loss_fn(y, model(x))) for x, y in dataset()]
    names = run(CUSTOM_LOOP, dataset=dataset(), model=model, loss_fn=loss_fn)
    after = [float(loss_fn(y, model(x))) for x, y in dataset()]
    assert int(names["optimizer"].iterations) == 40
    assert all(b < a for a, b in zip(before, after, strict=True))
    # Adam's step is its learning rate, 0.001 by default, while the gradients keep their signs.
    assert model.get_weights()[0][1, 0] == pytest.approx(1 - 40 * 0.001, abs=0.006)


def test_the_custom_loop_on_shares_gives_the_weights_of_the_whole(replicas):
    def program(rank, size):
        model = keras.Sequential([keras.layers.Dense(1, input_shape=(3,), kernel_initializer="ones")])
        shares = [(x[rank::size], y[rank::size]) for x, y in dataset()]
        summed = keras.losses.MeanSquaredError(reduction="sum")
        run(CUSTOM_LOOP, dataset=shares, model=model, loss_fn=lambda y, p: summed(y, p) / 12)
        return model.get_weights()

    def here():
        context = tf.distribute.get_replica_context()
        return program(context.replica_id_in_sync_group, context.num_replicas_in_sync)

    whole = program(0, 1)
    for kernel, bias in replicas.run(here):
        np.testing.assert_allclose(kernel, whole[0], rtol=1e-5)
        np.testing.assert_allclose(bias, whole[1], rtol=1e-5, atol=1e-7)


def test_a_schedule_modulates_the_learning_rate_over_time():
    optimizer = run(SCHEDULE, keras=keras)["optimizer"]
    v = tf.Variable(0.0)
    for start, rate in ((0, 0.01), (5000, 0.01 * 0.9**0.5), (10000, 0.009)):
        optimizer.iterations.assign(start)
        before = float(v)
        optimizer.apply_gradients([(1.0, v)])
        assert before - float(v) == pytest.approx(rate, rel=1e-5)


def test_gradients_aggregated_by_oneself_are_not_summed_again(replicas):
    def program():
        rank = tf.distribute.get_replica_context().replica_id_in_sync_group
        v = tf.Variable([1.0, 2.0])
        with tf.GradientTape() as tape:
            loss = tf.math.reduce_sum(v * v) * (rank + 1)
        optimizer = tf.keras.optimizers.SGD(0.25)
        run(OWN_AGGREGATION, tape=tape, loss=loss, vars=[v], optimizer=optimizer)
        return v.numpy().tolist(), int(optimizer.iterations)

    factor = 1 - 0.5 * sum(range(1, replicas.size + 1))
    assert replicas.run(program) == [([factor, 2 * factor], 1)] * replicas.size


@pytest.mark.parametrize("block", [GET_WEIGHTS, SET_WEIGHTS], ids=["get_weights", "set_weights"])
def test_get_and_set_weights_as_shown(block):
    test = doctest.DocTestParser().get_doctest(block, {"tf": tf, "np": np}, "block", None, None)
    report = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE  # the progress bar has a line of its own
    runner = doctest.DocTestRunner(optionflags=flags, verbose=False)
    result = runner.run(test, out=report.append, clear_globs=False)
    assert result.attempted >= 7
    assert result.failed == 0, "".join(report)
    if block is SET_WEIGHTS:
        assert (test.globs["opt"].get_weights()[1] == 1).all()
