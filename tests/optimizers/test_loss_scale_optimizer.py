"""LossScaleOptimizer: its arithmetic, decisions that all replicas share, configs, float16 in fit."""

import copy

import numpy as np
import pytest
from replicated import on_replicas, rank

import distopt
from distopt import GradientTape, Variable, keras
from distopt.optimizers import SGD, Adam, LossScaleOptimizer, get, serialize


def test_the_scale_rises_and_falls_as_in_keras():
    """Recorded from Keras 3.15, with growth after 2 finite steps."""
    v = Variable(np.ones(2, "f4"), name="v")
    optimizer = LossScaleOptimizer(SGD(0.5), initial_scale=8.0, dynamic_growth_steps=2)
    seen = []
    for value in (1, 1, np.inf, 1, np.nan, 1, 1):
        optimizer.apply([np.float32(value) * np.ones(2, "f4") * optimizer.loss_scale], [v])
        seen.append((float(optimizer.dynamic_scale), int(optimizer.step_counter), float(v.numpy()[0])))
    assert seen == [
        *((8, 1, 0.5), (16, 0, 0), (8, 0, 0), (8, 1, -0.5)),
        *((4, 0, -0.5), (4, 1, -1), (8, 0, -1.5)),
    ]
    assert int(optimizer.iterations) == int(optimizer.inner_optimizer.iterations) == 5


def test_minimize_makes_the_step_of_the_inner_optimizer():
    def trained(optimizer):
        v = Variable(np.array([1.0, -2.0]), name="v")
        for _ in range(5):
            optimizer.minimize(lambda: distopt.math.reduce_sum(v * v * v), [v])
        return v.numpy()

    np.testing.assert_array_equal(trained(LossScaleOptimizer(Adam(0.25), 2.0**10)), trained(Adam(0.25)))


def test_gradients_that_would_vanish_in_float16_do_not():
    v = Variable(np.ones(1, "f2"), name="v")
    optimizer = LossScaleOptimizer(SGD(1.0), 2.0**12)
    small = np.float16(2.0**-13)
    with GradientTape(persistent=True) as tape:
        loss = v * np.float16(64) * small * small  # on the way back 2**-26 is too small for float16
        scaled = optimizer.get_scaled_loss(loss)
    assert float(tape.gradient(loss, v)[0]) == 0
    gradient, none = optimizer.get_unscaled_gradients([tape.gradient(scaled, v), None])
    assert none is None
    assert gradient.dtype == np.float16
    assert float(gradient[0]) == 2.0**-20
    assert float(optimizer.scale_loss(lambda: 2.0)()) == 2.0**13


@pytest.mark.parametrize("bad", [0, 1, None])
def test_all_replicas_decide_alike(bad):
    """One replica's infinity leaves the step out on all; the scale has the same bits."""

    def program():
        v = Variable(np.ones(3, "f4"), name="v")
        optimizer = LossScaleOptimizer(Adam(0.25), 3.0)
        for step in range(3):
            gradient = np.ones(3, "f4")
            if step == 1 and rank() == bad:
                gradient[2] = np.inf
            optimizer.apply_gradients([(gradient, v)])
        return [w.numpy().tobytes() for w in [v, *optimizer.weights]], float(optimizer.loss_scale)

    first, second = on_replicas(2, program)
    assert first == second
    assert first[1] == (3.0 if bad is None else 1.5)


def test_replicas_that_share_it_adapt_it_once():
    strategy = distopt.distribute.VirtualStrategy(2)
    with strategy.scope():
        v = Variable(np.ones(1, "f4"), name="v")
        optimizer = LossScaleOptimizer(SGD(0.5), 8.0, dynamic_growth_steps=1)

    def program():
        optimizer.apply_gradients([(np.ones(1, "f4"), v)])
        optimizer.apply_gradients([(np.full(1, np.inf if rank() else 1, "f4"), v)])

    strategy.run(program)
    assert float(optimizer.loss_scale) == 8.0
    assert int(optimizer.iterations) == 1


def test_settings_configs_and_copies():
    optimizer = LossScaleOptimizer(SGD(0.5, clipnorm=1.0), 4.0, 7)
    optimizer.learning_rate = 0.25
    optimizer.clipnorm = 2.0
    assert float(optimizer.inner_optimizer.learning_rate) == 0.25
    assert optimizer.inner_optimizer.clipnorm == 2.0
    config = serialize(optimizer)
    again = get(config)
    assert serialize(again) == config
    assert (again.initial_scale, again.dynamic_growth_steps) == (4.0, 7)
    v = Variable(np.ones(1, "f4"), name="v")
    optimizer.apply_gradients([(np.full(1, np.inf, "f4"), v)])
    again.apply_gradients([(np.ones(1, "f4"), Variable(np.ones(1, "f4"), name="v"))])
    again.set_weights(optimizer.get_weights())
    for twin in (again, copy.deepcopy(optimizer)):
        assert float(twin.loss_scale) == 2.0
        assert int(twin.iterations) == 0


def test_refused():
    with pytest.raises(TypeError, match="inner_optimizer"):
        LossScaleOptimizer("sgd")
    with pytest.raises(ValueError, match="on_nonfinite='raise'"):
        LossScaleOptimizer(SGD(on_nonfinite="raise"))
    for scale in (0, np.inf, -1.0):
        with pytest.raises(ValueError, match="initial_scale"):
            LossScaleOptimizer(SGD(), scale)


@pytest.mark.parametrize("steps_per_update", [1, 2])
def test_fit_with_layers_of_float16(steps_per_update):
    """The first scale is far too large: it falls until gradients are finite, then the loss falls."""

    def program():
        generator = np.random.default_rng(0)
        x = generator.normal(size=(64, 3)).astype("f2")
        y = x @ np.array([[1], [-1], [0.5]], "f2")
        model = keras.Sequential([keras.layers.Dense(1, input_shape=(3,), dtype="float16")])
        model.compile(LossScaleOptimizer(SGD(0.125), 2.0**20), "mse", steps_per_update=steps_per_update)
        history = model.fit(x, y, batch_size=16, epochs=12, verbose=0)
        return history.history["loss"][-1], model.optimizer.get_weights()

    (loss, weights), (other, others) = on_replicas(2, program)
    assert loss == other < 0.01
    assert [w.tobytes() for w in weights] == [w.tobytes() for w in others]
    assert 1 <= weights[1] < 2.0**18
