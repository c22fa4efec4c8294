"""The code blocks of the page "Class Optimizer" of TensorFlow 2.0, as printed there.

Source: https://www.tensorflow.org/versions/r2.0/api_docs/python/tf/keras/optimizers/Optimizer. Samples are
licensed under the Apache License 2.0, copyright 2020 The TensorFlow Authors.
"""

import numpy as np
import pytest
from blocks import run

import distopt as tf

USAGE = """
# Create an optimizer with the desired parameters.
opt = tf.keras.optimizers.SGD(learning_rate=0.1)
# `loss` is a callable that takes no argument and returns the value
# to minimize.
loss = lambda: 3 * var1 * var1 + 2 * var2 * var2
# In graph mode, returns op that minimizes the loss by updating the listed
# variables.
opt_op = opt.minimize(loss, var_list=[var1, var2])
opt_op.run()
# In eager mode, simply call minimize to update the list of variables.
opt.minimize(loss, var_list=[var1, var2])
"""

LATE_VARIABLES = """
opt = tf.keras.optimizers.SGD(learning_rate=0.1)
model = tf.keras.Sequential()
model.add(tf.keras.layers.Dense(num_hidden, activation='relu'))
model.add(tf.keras.layers.Dense(num_classes, activation='sigmoid'))
loss_fn = lambda: tf.keras.losses.mse(model(input), output)
var_list_fn = lambda: model.trainable_weights
for input, output in data:
  opt.minimize(loss_fn, var_list_fn)
"""

PROCESSING = """
# Create an optimizer.
opt = tf.keras.optimizers.SGD(learning_rate=0.1)

# Compute the gradients for a list of variables.
with tf.GradientTape() as tape:
  loss = <call_loss_function>
vars = <list_of_variables>
grads = tape.gradient(loss, vars)
processed_grads = [process_gradient(g) for g in grads]
grads_and_vars = zip(processed_grads, var_list)

# grads_and_vars is a list of tuples (gradient, variable).  Do whatever you
# need to the 'gradient' part, for example cap them, etc.
capped_grads_and_vars = [(MyCapper(gv[0]), gv[1]) for gv in grads_and_vars]

# Ask the optimizer to apply the capped gradients.
opt.apply_gradients(capped_grads_and_vars)
"""


def test_minimize_updates_the_listed_variables():
    var1, var2 = tf.Variable(1.0), tf.Variable(2.0)
    names = run(USAGE, var1=var1, var2=var2)
    assert int(names["opt"].iterations) == 2
    assert float(var1) == pytest.approx(1.0 * 0.4**2)
    assert float(var2) == pytest.approx(2.0 * 0.6**2)


def test_minimize_sums_over_replicas(replicas):
    def program():
        var1, var2 = tf.Variable(1.0), tf.Variable(2.0)
        run(USAGE.replace("0.1", "0.05"), var1=var1, var2=var2)
        return float(var1), float(var2)

    n = replicas.size
    expected = pytest.approx(((1 - 0.3 * n) ** 2, 2 * (1 - 0.2 * n) ** 2), rel=1e-5)
    assert replicas.run(program) == [expected] * n


def batches(count, rows):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (count, rows))
    x = rng.normal(size=(count, rows, 5)).astype(np.float32)
    x[..., :3] += 3 * np.eye(3, dtype=np.float32)[labels]
    return [(a, np.eye(3, dtype=np.float32)[b]) for a, b in zip(x, labels, strict=True)]


def test_a_callable_var_list_finds_variables_made_by_the_first_call():
    np.random.seed(0)  # first weights: from unlucky ones 30 steps are too few
    data = batches(30, 8)
    names = run(LATE_VARIABLES, num_hidden=4, num_classes=3, data=data)
    model, opt = names["model"], names["opt"]
    assert [v.shape for v in model.trainable_weights] == [(5, 4), (4,), (4, 3), (3,)]
    assert int(opt.iterations) == 30
    fresh = run(LATE_VARIABLES, num_hidden=4, num_classes=3, data=data[:1])["model"]
    inputs, outputs = data[0]

    def error(m):
        return float(np.mean((np.asarray(m(inputs)) - outputs) ** 2))

    assert error(model) < 0.7 * error(fresh)


def test_gradients_are_processed_and_capped_before_they_are_applied():
    v = tf.Variable([1.0, 2.0, 3.0])
    names = run(
        PROCESSING,
        call_loss_function=lambda: tf.math.reduce_sum(v * [1.0, 10.0, 100.0]),
        list_of_variables=[v],
        var_list=[v],
        process_gradient=lambda g: g / 10,
        MyCapper=lambda g: np.minimum(g, 1.0),
    )
    np.testing.assert_allclose(v.numpy(), [1 - 0.01, 2 - 0.1, 3 - 0.1], rtol=1e-6)
    assert int(names["opt"].iterations) == 1
