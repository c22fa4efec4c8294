"""The code blocks of the pages on class Optimizer of TensorFlow 2.4 and 2.0, as printed there.

Sources: https://www.tensorflow.org/versions/r2.4/api_docs/python/tf/keras/optimizers/Optimizer and
https://www.tensorflow.org/versions/r2.0/api_docs/python/tf/keras/optimizers/Optimizer. Samples are licensed
under the Apache License 2.0, copyright 2020 The TensorFlow Authors. What both pages have in common (usage,
late variables) is here once.
"""

import inspect

import numpy as np
import pytest
from blocks import run

import distopt as tf

PROCESSING = """
# Create an optimizer.
opt = tf.keras.optimizers.SGD(learning_rate=0.1)

# Compute the gradients for a list of variables.
with tf.GradientTape() as tape:
  loss = <call_loss_function>
vars = <list_of_variables>
grads = tape.gradient(loss, vars)

# Process the gradients, for example cap them, etc.
# capped_grads = [MyCapper(g) for g in grads]
processed_grads = [process_gradient(g) for g in grads]

# Ask the optimizer to apply the processed gradients.
opt.apply_gradients(zip(processed_grads, var_list))
"""

OVERWRITTEN = """
# Create an optimizer with the desired parameters.
opt = tf.keras.optimizers.SGD(learning_rate=0.1)
# `loss` is a callable that takes no argument and returns the value
# to minimize.
loss = lambda: 3 * var1 + 2 * var2
# In eager mode, simply call minimize to update the list of variables.
opt.minimize(loss, var_list=[var1, var2])
# update learning rate
opt.learning_rate = 0.05
opt.minimize(loss, var_list=[var1, var2])
"""

SCHEDULE = """
var = tf.Variable(np.random.random(size=(1,)))
learning_rate = tf.keras.optimizers.schedules.ExponentialDecay(
initial_learning_rate=.01, decay_steps=20, decay_rate=.1)
opt = tf.keras.optimizers.SGD(learning_rate=learning_rate)
loss = lambda: 3 * var
opt.minimize(loss, var_list=[var])
<tf.Variable...
"""

CALLABLE = """
var = tf.Variable(np.random.random(size=(1,)))
def lr_callable():
  return .1
opt = tf.keras.optimizers.SGD(learning_rate=lr_callable)
loss = lambda: 3 * var
opt.minimize(loss, var_list=[var])
<tf.Variable...
"""

OWN_AGGREGATION = """
grads = tape.gradient(loss, vars)
grads = tf.distribute.get_replica_context().all_reduce('sum', grads)
# Processing aggregated gradients.
optimizer.apply_gradients(zip(grads, vars),
    experimental_aggregate_gradients=False)
"""

GET_WEIGHTS = """
opt = tf.keras.optimizers.RMSprop()
m = tf.keras.models.Sequential([tf.keras.layers.Dense(10)])
m.compile(opt, loss='mse')
data = np.arange(100).reshape(5, 20)
labels = np.zeros(5)
print('Training'); results = m.fit(data, labels)
Training ...
len(opt.get_weights())
3
"""

SET_WEIGHTS = """
opt = tf.keras.optimizers.RMSprop()
m = tf.keras.models.Sequential([tf.keras.layers.Dense(10)])
m.compile(opt, loss='mse')
data = np.arange(100).reshape(5, 20)
labels = np.zeros(5)
print('Training'); results = m.fit(data, labels)
Training ...
new_weights = [np.array(10), np.ones([20, 10]), np.zeros([10])]
opt.set_weights(new_weights)
opt.iterations
<tf.Variable 'RMSprop/iter:0' shape=() dtype=int64, numpy=10>
"""

#: The blocks that show how a method is called.
SIGNATURES = [
    "tf.keras.optimizers.Optimizer(name, gradient_aggregator=None, gradient_transformers=None, **kwargs)",
    "add_slot(var, slot_name, initializer='zeros')",
    "add_weight(name, shape, dtype=None, initializer='zeros', trainable=None, "
    "synchronization=tf.VariableSynchronization.AUTO, "
    "aggregation=tf.compat.v1.VariableAggregation.NONE)",
    "apply_gradients(grads_and_vars, name=None, experimental_aggregate_gradients=True)",
    "from_config(config, custom_objects=None)",
    "get_config()",
    "get_gradients(loss, params)",
    "get_slot(var, slot_name)",
    "get_slot_names()",
    "get_updates(loss, params)",
    "get_weights()",
    "minimize(loss, var_list, grad_loss=None, name=None, tape=None)",
    "set_weights(weights)",
    "variables()",
]


@pytest.mark.parametrize("block", SIGNATURES, ids=lambda block: block.partition("(")[0])
def test_signature(block):
    path, _, arguments = block.partition("(")
    space = {"tf": tf}
    exec(f"def documented({arguments}: ...", space)
    if "." in path:
        actual = inspect.signature(eval(path, space))
    else:
        actual = inspect.signature(getattr(tf.keras.optimizers.SGD(), path))
    shown = [(p.name, p.kind, p.default) for p in inspect.signature(space["documented"]).parameters.values()]
    assert [(p.name, p.kind, p.default) for p in actual.parameters.values()] == shown


def test_gradients_are_processed_before_they_are_applied():
    v = tf.Variable([1.0, 2.0])
    run(
        PROCESSING,
        call_loss_function=lambda: tf.math.reduce_sum(v * [1.0, 100.0]),
        list_of_variables=[v],
        var_list=[v],
        process_gradient=lambda g: np.minimum(g, 10.0),
    )
    np.testing.assert_allclose(v.numpy(), [0.9, 1.0], rtol=1e-6)


def test_processed_gradients_are_those_of_one_replica_and_then_summed(replicas):
    def program():
        rank = tf.distribute.get_replica_context().replica_id_in_sync_group
        v = tf.Variable([0.0])
        run(
            PROCESSING,
            call_loss_function=lambda: v * (1.0 + 100.0 * (rank == 0)),
            list_of_variables=[v],
            var_list=[v],
            process_gradient=lambda g: np.minimum(g, 10.0),
        )
        return float(v[0])

    capped = 10.0 + (replicas.size - 1)  # a cap of each, then the sum
    assert replicas.run(program) == [pytest.approx(-0.1 * capped)] * replicas.size


def test_an_overwritten_hyperparameter_takes_effect_at_the_next_step(replicas):
    def program():
        var1, var2 = tf.Variable(1.0), tf.Variable(1.0)
        run(OVERWRITTEN, var1=var1, var2=var2)
        return float(var1), float(var2)

    n = replicas.size
    expected = pytest.approx((1 - 3 * n * 0.15, 1 - 2 * n * 0.15), rel=1e-5)
    assert replicas.run(program) == [expected] * n


def test_a_schedule_is_called_with_the_iterations():
    np.random.seed(0)
    names = run(SCHEDULE)
    np.random.seed(0)
    start = np.random.random(size=(1,))
    np.testing.assert_allclose(names["var"].numpy(), start - 0.03, rtol=1e-6)
    names["opt"].iterations.assign(20)
    names["opt"].minimize(names["loss"], var_list=[names["var"]])
    np.testing.assert_allclose(names["var"].numpy(), start - 0.03 - 0.003, rtol=1e-6)


def test_a_callable_is_called_at_each_step():
    np.random.seed(0)
    names = run(CALLABLE)
    np.random.seed(0)
    np.testing.assert_allclose(names["var"].numpy(), np.random.random(size=(1,)) - 0.3, rtol=1e-6)
    assert float(names["opt"].learning_rate) == pytest.approx(0.1)


def test_own_aggregation_equals_the_default(replicas):
    def program(own):
        rank = tf.distribute.get_replica_context().replica_id_in_sync_group
        v, optimizer = tf.Variable([1.0, -2.0]), tf.keras.optimizers.Adam(0.1)
        for _ in range(3):
            with tf.GradientTape() as tape:
                loss = tf.math.reduce_sum(v * v * (rank + 1.0))
            if own:
                run(OWN_AGGREGATION, tape=tape, loss=loss, vars=[v], optimizer=optimizer)
            else:
                optimizer.apply_gradients([(tape.gradient(loss, v), v)])
        return v.numpy().tolist()

    defaults = replicas.run(lambda: program(own=False))
    assert replicas.run(lambda: program(own=True)) == defaults
    assert defaults == [defaults[0]] * replicas.size


def test_get_weights_as_shown(capsys):
    names = run(GET_WEIGHTS)
    assert capsys.readouterr().out.startswith("Training\n")
    assert [w.shape for w in names["opt"].get_weights()] == [(), (20, 10), (10,)]


def test_set_weights_as_shown(capsys):
    opt = run(SET_WEIGHTS)["opt"]
    assert capsys.readouterr().out.startswith("Training\n")
    assert [w.tolist() for w in opt.get_weights()] == [10, [[1.0] * 10] * 20, [0.0] * 10]


@pytest.mark.parametrize("alias", ["tf.optimizers.Optimizer", "tf.compat.v1.keras.optimizers.Optimizer"])
def test_aliases(alias):
    assert eval(alias, {"tf": tf}) is tf.keras.optimizers.Optimizer


def test_the_text_on_averaging(replicas):
    """Sum the losses of the examples and divide by the global batch: reduce_mean would be too big."""

    def program():
        rank, size = (tf.distribute.get_replica_context().replica_id_in_sync_group, replicas.size)
        examples = np.arange(8, dtype=np.float32)[rank::size]
        moved = []
        for reduce in (lambda x: tf.math.reduce_sum(x) / 8, tf.math.reduce_mean):
            w = tf.Variable(0.0)
            tf.keras.optimizers.SGD(1.0).minimize(lambda w=w, reduce=reduce: reduce(w * examples), [w])
            moved.append(-float(w))
        return moved

    assert replicas.run(program) == [[3.5, 3.5 * replicas.size]] * replicas.size


def test_the_text_on_constraints():
    w = tf.Variable([1.0, 1.0], constraint=tf.keras.constraints.NonNeg())
    tf.keras.optimizers.SGD(1.0).apply_gradients([([3.0, 0.5], w)])
    assert w.numpy().tolist() == [0.0, 0.5]
    sparse = tf.IndexedSlices(np.ones(1, np.float32), np.array([0]), (2,))
    with pytest.raises(RuntimeError, match="constraint"):
        tf.keras.optimizers.SGD(1.0).apply_gradients([(sparse, w)])


def test_the_table_of_errors():
    opt, v = tf.keras.optimizers.SGD(), tf.Variable(1.0)
    with pytest.raises(TypeError):
        opt.apply_gradients(3)
    with pytest.raises(ValueError, match="No gradients"):
        opt.apply_gradients([(None, v)])
    with tf.distribute.VirtualStrategy(2).scope(), pytest.raises(RuntimeError, match="cross-replica"):
        opt.apply_gradients([(1.0, v)])
    with pytest.raises(ValueError, match="2"):
        opt.minimize(lambda: v * v, [v, 2.0])
    with pytest.raises(ValueError, match="tape"):
        opt.minimize(v * v, [v])
    assert float(v) == 1.0


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

PROCESSING_2_0 = """
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
        PROCESSING_2_0,
        call_loss_function=lambda: tf.math.reduce_sum(v * [1.0, 10.0, 100.0]),
        list_of_variables=[v],
        var_list=[v],
        process_gradient=lambda g: g / 10,
        MyCapper=lambda g: np.minimum(g, 1.0),
    )
    np.testing.assert_allclose(v.numpy(), [1 - 0.01, 2 - 0.1, 3 - 0.1], rtol=1e-6)
    assert int(names["opt"].iterations) == 1
