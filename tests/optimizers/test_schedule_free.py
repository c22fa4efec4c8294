"""ScheduleFree: the paper's sequences, optax, two sets of weights, layouts, fit."""

import copy

import numpy as np
import pytest
from replicated import on_replicas, rank

from distopt import IndexedSlices, Variable, keras
from distopt.optimizers import LAMB, LARS, SGD, Adam, Nadam, ScheduleFree, ScheduleFreeAdamW, get, serialize

B = 0.9


def test_it_is_the_algorithm_of_the_paper():
    """z by gradients at y, x their mean, y between them; also for rows that a gradient does not name."""
    start = np.arange(6.0).reshape(3, 2)
    v = Variable(start, name="v")
    optimizer = ScheduleFree(SGD(np.float64(0.25)), B)
    x = z = start
    for t in range(1, 7):
        y = (1 - B) * z + B * x
        np.testing.assert_allclose(v.numpy(), y, rtol=1e-13)
        gradient = np.random.default_rng(t).normal(size=(3, 2))
        if t % 2:
            gradient[1] = 0
            optimizer.apply_gradients([(IndexedSlices(gradient[[0, 2]], [0, 2], (3, 2)), v)])
        else:
            optimizer.apply_gradients([(gradient, v)])
        z = z - 0.25 * gradient
        x = (1 - 1 / t) * x + z / t
    with optimizer.eval():
        np.testing.assert_allclose(v.numpy(), x, rtol=1e-13)


def test_the_numbers_of_optax():
    jax = pytest.importorskip("jax")
    optax = pytest.importorskip("optax")
    with jax.experimental.enable_x64() if hasattr(jax.experimental, "enable_x64") else jax.enable_x64():
        values = jax.numpy.asarray([0.5, -2.0, 3.0], "float64")
        theirs = optax.contrib.schedule_free(optax.sgd(0.25), 0.25, b1=B)
        state = theirs.init(values)
        v = Variable(np.asarray(values), name="v")
        ours = ScheduleFree(SGD(np.float64(0.25)), B)
        for step in range(30):
            gradient = np.random.default_rng(step).normal(size=3)
            updates, state = theirs.update(jax.numpy.asarray(gradient), state, values)
            values = optax.apply_updates(values, updates)
            ours.apply_gradients([(gradient, v)])
        np.testing.assert_allclose(v.numpy(), np.asarray(values), rtol=1e-10)
        evaluated = optax.contrib.schedule_free_eval_params(state, values)
        with ours.eval():
            np.testing.assert_allclose(v.numpy(), np.asarray(evaluated), rtol=1e-10)


def trained(make=lambda: ScheduleFreeAdamW(0.0625, weight_decay=0.125), steps=4):
    generator = np.random.default_rng(3)
    named = [
        Variable(generator.normal(size=s).astype("f4"), name=f"v{i}")
        for i, s in enumerate([(70_001,), (9, 3)])
    ]
    optimizer = make()
    for step in range(steps):
        generator = np.random.default_rng(step)
        grads = [(generator.integers(-8, 9, v.shape) / 8).astype("f4") for v in named]
        if rank() != step % 2:
            grads = [np.zeros_like(g) for g in grads]
        if step % 2:
            grads[1] = IndexedSlices(grads[1][:2], np.array([0, 4]), (9, 3))
        optimizer.apply_gradients(list(zip(grads, named, strict=True)))
    return optimizer, named


def bits(optimizer, named):
    return [w.numpy().tobytes() for w in [*named, *optimizer.weights]]


@pytest.mark.parametrize("memory", ["shared", "private"])
def test_all_layouts_have_the_same_bits(memory, monkeypatch):
    monkeypatch.setenv("DISTOPT_MEMORY", memory)
    two = on_replicas(2, lambda: bits(*trained()))
    assert two[0] == two[1]
    assert on_replicas(3, lambda: bits(*trained())) == [two[0]] * 3


def test_evaluating_in_between_changes_no_bit():
    def program():
        def evaluating(steps):
            optimizer, named = trained(steps=steps)
            training = [v.numpy() for v in named]
            with optimizer.eval(), optimizer.eval():  # the inner one has nothing to do
                assert not any(np.array_equal(v, y) for v, y in zip(named, training))
                with pytest.raises(RuntimeError, match=r"optimizer.train\(\)"):
                    optimizer.apply_gradients([(np.zeros(v.shape, "f4"), v) for v in named])
            return optimizer, named

        optimizer, named = evaluating(4)
        return bits(optimizer, named) == bits(*trained(steps=4))

    assert on_replicas(2, program) == [True, True]


def test_train_goes_back_and_forth():
    optimizer, (v, _) = on_replicas(1, trained)[0]
    training = v.numpy()
    optimizer.train()
    assert np.array_equal(v.numpy(), training)
    optimizer.eval()
    evaluated = v.numpy()
    optimizer.eval()
    assert np.array_equal(v.numpy(), evaluated)
    twin, w = copy.deepcopy((optimizer, v))  # it knows in which state it is
    for o, variable in ((optimizer, v), (twin, w)):
        o.train()
        np.testing.assert_allclose(variable.numpy(), training, atol=1e-6 * np.abs(training).max())


def test_configs():
    config = serialize(ScheduleFree(Adam(0.5, beta_1=0.0, clipnorm=2.0), 0.75, name="mine"))
    again = get(config)
    assert serialize(again) == config
    assert again.inner_optimizer.clipnorm == again.clipnorm == 2.0
    assert float(again.learning_rate) == 0.5
    config = ScheduleFreeAdamW(0.5, beta_1=0.75, warmup_steps=3, weight_decay=0.5).get_config()
    assert (config["beta_1"], config["warmup_steps"], config["weight_decay"]) == (0.75, 3, 0.5)
    assert ScheduleFreeAdamW.from_config(config).get_config() == config


def test_refused():
    with pytest.raises(TypeError, match="compiled rule"):
        ScheduleFree("adam")
    for inner in (LAMB(), LARS(), Nadam()):
        with pytest.raises(TypeError, match="not LAMB, LARS or Nadam"):
            ScheduleFree(inner)
    with pytest.raises(ValueError, match="beta_1"):
        ScheduleFree(SGD(), beta_1=0)
    used = SGD()
    used.apply_gradients([(np.ones(1, "f4"), Variable([1.0]))])
    with pytest.raises(ValueError, match="has already made steps"):
        ScheduleFree(used)


def test_fit_evaluates_saves_and_ends_with_the_mean(tmp_path):
    def program():
        generator = np.random.default_rng(0)
        x, y = generator.normal(size=(24, 3)).astype("f4"), generator.normal(size=(24, 1)).astype("f4")
        model = keras.Sequential([keras.layers.Dense(1, input_shape=(3,))])
        model.compile(ScheduleFree(SGD(0.125)), "mse")
        path = str(tmp_path / "{epoch}.npz")
        saving = keras.callbacks.ModelCheckpoint(path)
        history = model.fit(x, y, 8, epochs=2, verbose=0, validation_data=(x, y), callbacks=[saving])
        left = model.get_weights()
        other = keras.Sequential([keras.layers.Dense(1, input_shape=(3,))])
        other.load_weights(path.format(epoch=2))
        saved = [np.array_equal(a, b) for a, b in zip(other.get_weights(), left, strict=True)]
        loss = model.evaluate(x, y, verbose=0)
        before = model.optimizer.get_slot(model.trainable_weights[0], "z").numpy()
        model.fit(x, y, 8, epochs=1, verbose=0)  # goes on at y
        moved = not np.array_equal(before, model.optimizer.get_slot(model.trainable_weights[0], "z").numpy())
        same = loss == pytest.approx(history.history["val_loss"][-1], rel=1e-6)
        return saved, same, moved, int(model.optimizer.iterations)

    assert on_replicas(2, program) == [([True, True], True, True, 9)] * 2
