"""The code of the API's documents, as printed there but for the imports and the names it leaves open."""

import textwrap

import numpy as np
import pytest

import distopt as tf

keras = tf.keras
layers = getattr(keras, "layers", None)


def run(code, **names):
    """Runs a block and returns its names."""
    space = {"tf": tf, "keras": keras, "layers": layers, "np": np, **names}
    exec(textwrap.dedent(code), space)
    return space


def test_usage():
    var1, var2 = tf.Variable(1.0), tf.Variable(2.0)
    run(
        """
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
        """,
        var1=var1,
        var2=var2,
    )
    assert float(var1) == pytest.approx(0.4**2)
    assert float(var2) == pytest.approx(2 * 0.6**2)


def test_custom_training_loop_with_variables_made_late():
    rng = np.random.default_rng(0)
    data = [(rng.normal(size=(8, 5)).astype("f4"), np.eye(3, dtype="f4")[rng.integers(0, 3, 8)])] * 5
    names = run(
        """
        opt = tf.keras.optimizers.SGD(learning_rate=0.1)
        model = tf.keras.Sequential()
        model.add(tf.keras.layers.Dense(num_hidden, activation='relu'))
        model.add(tf.keras.layers.Dense(num_classes, activation='sigmoid'))
        loss_fn = lambda: tf.keras.losses.mse(model(input), output)
        var_list_fn = lambda: model.trainable_weights
        losses = []
        for input, output in data:
          opt.minimize(loss_fn, var_list_fn)
          losses.append(float(np.mean(loss_fn())))
        """,
        num_hidden=4,
        num_classes=3,
        data=data,
    )
    assert len(names["model"].trainable_weights) == 4
    assert names["losses"][-1] < names["losses"][0]
    assert int(names["opt"].iterations) == 5


def test_processing_gradients():
    var_list = [tf.Variable([1.0, 2.0])]
    run(
        """
        # Create an optimizer.
        opt = tf.keras.optimizers.SGD(learning_rate=0.1)

        # Compute the gradients for a list of variables.
        with tf.GradientTape() as tape:
          loss = call_loss_function()
        vars = list_of_variables
        grads = tape.gradient(loss, vars)

        # Process the gradients, for example cap them, etc.
        # capped_grads = [MyCapper(g) for g in grads]
        processed_grads = [process_gradient(g) for g in grads]

        # Ask the optimizer to apply the processed gradients.
        opt.apply_gradients(zip(processed_grads, var_list))
        """,
        call_loss_function=lambda: 10 * var_list[0],
        list_of_variables=var_list,
        process_gradient=lambda g: np.minimum(g, 5.0),
        var_list=var_list,
    )
    assert var_list[0].numpy().tolist() == [0.5, 1.5]


def test_processing_gradients_in_version_2_0():
    var_list = [tf.Variable([1.0, 2.0])]
    run(
        """
        # Create an optimizer.
        opt = tf.keras.optimizers.SGD(learning_rate=0.1)

        # Compute the gradients for a list of variables.
        with tf.GradientTape() as tape:
          loss = call_loss_function()
        vars = list_of_variables
        grads = tape.gradient(loss, vars)
        processed_grads = [process_gradient(g) for g in grads]
        grads_and_vars = zip(processed_grads, var_list)

        # grads_and_vars is a list of tuples (gradient, variable).  Do whatever you
        # need to the 'gradient' part, for example cap them, etc.
        capped_grads_and_vars = [(MyCapper(gv[0]), gv[1]) for gv in grads_and_vars]

        # Ask the optimizer to apply the capped gradients.
        opt.apply_gradients(capped_grads_and_vars)
        """,
        call_loss_function=lambda: 10 * var_list[0],
        list_of_variables=var_list,
        process_gradient=lambda g: g / 2,
        MyCapper=lambda g: np.minimum(g, 1.0),
        var_list=var_list,
    )
    np.testing.assert_allclose(var_list[0].numpy(), [0.9, 1.9], rtol=1e-6)


def test_hyperparameters_can_be_overwritten():
    var1, var2 = tf.Variable(1.0), tf.Variable(1.0)
    run(
        """
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
        """,
        var1=var1,
        var2=var2,
    )
    assert float(var1) == pytest.approx(1 - 0.3 - 0.15)
    assert float(var2) == pytest.approx(1 - 0.2 - 0.1)


def test_schedule_as_learning_rate():
    names = run(
        """
        var = tf.Variable(np.random.random(size=(1,)))
        before = var.numpy()
        learning_rate = tf.keras.optimizers.schedules.ExponentialDecay(
        initial_learning_rate=.01, decay_steps=20, decay_rate=.1)
        opt = tf.keras.optimizers.SGD(learning_rate=learning_rate)
        loss = lambda: 3 * var
        result = opt.minimize(loss, var_list=[var])
        """
    )
    np.testing.assert_allclose(names["before"] - names["var"].numpy(), 0.03, rtol=1e-6)
    assert repr(names["result"]).startswith("<tf.Variable")


def test_callable_as_learning_rate():
    names = run(
        """
        var = tf.Variable(np.random.random(size=(1,)))
        before = var.numpy()
        def lr_callable():
          return .1
        opt = tf.keras.optimizers.SGD(learning_rate=lr_callable)
        loss = lambda: 3 * var
        result = opt.minimize(loss, var_list=[var])
        """
    )
    np.testing.assert_allclose(names["before"] - names["var"].numpy(), 0.3, rtol=1e-6)
    assert repr(names["result"]).startswith("<tf.Variable")


def test_aggregating_oneself(replicas):
    def program():
        v = tf.Variable([1.0, 2.0])
        with tf.GradientTape() as tape:
            loss = tf.math.reduce_sum(v * v)
        run(
            """
            grads = tape.gradient(loss, vars)
            grads = tf.distribute.get_replica_context().all_reduce('sum', grads)
            # Processing aggregated gradients.
            optimizer.apply_gradients(zip(grads, vars),
                experimental_aggregate_gradients=False)
            """,
            tape=tape,
            loss=loss,
            vars=[v],
            optimizer=tf.optimizers.SGD(0.25),
        )
        return v.numpy().tolist()

    n = replicas.size
    assert replicas.run(program) == [[1 - 0.5 * n, 2 - 1.0 * n]] * n


def test_get_and_set_weights(capsys):
    names = run(
        """
        opt = tf.keras.optimizers.RMSprop()
        m = tf.keras.models.Sequential([tf.keras.layers.Dense(10)])
        m.compile(opt, loss='mse')
        data = np.arange(100).reshape(5, 20)
        labels = np.zeros(5)
        print('Training'); results = m.fit(data, labels)
        count = len(opt.get_weights())
        new_weights = [np.array(10), np.ones([20, 10]), np.zeros([10])]
        opt.set_weights(new_weights)
        """
    )
    assert capsys.readouterr().out.startswith("Training")
    assert names["count"] == 3
    opt = names["opt"]
    assert repr(opt.iterations) == "<tf.Variable 'RMSprop/iter:0' shape=() dtype=int64, numpy=10>"
    assert (opt.get_weights()[1] == 1).all()


@pytest.mark.parametrize("by_name", [False, True])
def test_compile(by_name):
    names = run(
        """
        model = keras.Sequential()
        model.add(layers.Dense(64, kernel_initializer='uniform', input_shape=(10,)))
        model.add(layers.Activation('softmax'))

        opt = keras.optimizers.Adam(learning_rate=0.01)
        model.compile(loss='categorical_crossentropy', optimizer=opt)
        """
    )
    model = names["model"]
    assert model.optimizer is names["opt"]
    if by_name:
        run(
            """
            # pass optimizer by name: default parameters will be used
            model.compile(loss='categorical_crossentropy', optimizer='adam')
            """,
            model=model,
        )
        assert model.optimizer.get_config() == tf.optimizers.Adam().get_config()


def test_custom_training_loop():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 4)).astype("f4")
    y = (x @ np.array([[1.0], [2.0], [-1.0], [0.5]])).astype("f4")
    model = keras.Sequential([layers.Dense(1, input_shape=(4,))])
    losses = []

    def loss_fn(y_true, y_pred):
        value = tf.math.reduce_mean(keras.losses.mse(y_true, y_pred))
        losses.append(float(value))
        return value

    names = run(
        """
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
        """,
        dataset=[(x, y)] * 20,
        model=model,
        loss_fn=loss_fn,
    )
    assert losses[-1] < losses[0]
    assert int(names["optimizer"].iterations) == 20


def test_schedule():
    names = run(
        """
        lr_schedule = keras.optimizers.schedules.ExponentialDecay(
            initial_learning_rate=1e-2,
            decay_steps=10000,
            decay_rate=0.9)
        optimizer = keras.optimizers.SGD(learning_rate=lr_schedule)
        """
    )
    v = tf.Variable(0.0)
    names["optimizer"].iterations.assign(10000)
    names["optimizer"].apply_gradients([(1.0, v)])
    assert float(v) == pytest.approx(-0.009)


def test_names():
    assert tf.optimizers.Optimizer is tf.keras.optimizers.Optimizer
    assert tf.compat.v1.keras.optimizers.Optimizer is tf.optimizers.Optimizer
    assert tf.compat.v1.VariableAggregation.NONE is tf.VariableAggregation.NONE
    assert tf.keras.losses.Reduction.SUM_OVER_BATCH_SIZE == "sum_over_batch_size"
