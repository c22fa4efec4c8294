"""use_ema: averages by hand, with sparse gradients, constraints, custom optimizers, layouts, and in fit."""

import numpy as np
import pytest
from replicated import on_replicas, rank

from distopt import IndexedSlices, Variable, keras
from distopt.errors import ReplicaMismatch
from distopt.optimizers import SGD, Adam, Optimizer, get, serialize

EMA = {"use_ema": True, "ema_momentum": 0.75}


def average(optimizer, variable):
    return optimizer.get_slot(variable, "average").numpy()


def test_the_first_step_sets_it_and_the_others_move_it():
    v = Variable(np.zeros(3), name="v")
    optimizer = SGD(np.float64(0.5), **EMA)
    values = []
    for step in range(5):
        optimizer.apply_gradients([(np.arange(3.0) - step, v)])
        values.append(v.numpy())
    want = values[0]
    for value in values[1:]:
        want = 0.75 * want + 0.25 * value
    np.testing.assert_allclose(average(optimizer, v), want, rtol=1e-15)
    optimizer.finalize_variable_values([v, Variable(1.0)])
    np.testing.assert_array_equal(v.numpy(), average(optimizer, v))


def test_all_rows_move_with_a_sparse_gradient():
    v = Variable(np.ones((3, 2)), name="v")
    optimizer = SGD(np.float64(0.5), **EMA)
    optimizer.apply_gradients([(np.ones((3, 2)), v)])
    first = v.numpy()
    v.assign(np.zeros((3, 2)))
    optimizer.apply_gradients([(IndexedSlices(np.ones((1, 2)), [1], (3, 2)), v)])
    np.testing.assert_allclose(average(optimizer, v), 0.75 * first + 0.25 * v.numpy(), rtol=1e-15)


class Descent(Optimizer):
    """A user's own, in NumPy."""

    def _resource_apply_dense(self, grad, handle, apply_state=None):
        handle.assign_sub(0.5 * grad)

    def get_config(self):
        return super().get_config()


@pytest.mark.parametrize(
    "make", [lambda **kwargs: SGD(np.float64(0.5), **kwargs), lambda **k: Descent("d", **k)]
)
def test_it_is_the_average_of_constrained_values(make):
    v = Variable(np.ones(2), name="v", constraint=lambda w: np.maximum(w, 0))
    optimizer = make(**EMA, ema_overwrite_frequency=2)
    optimizer.apply_gradients([(np.array([4.0, 1.0]), v)])
    assert average(optimizer, v).tolist() == v.numpy().tolist() == [0, 0.5]
    optimizer.apply_gradients([(np.array([4.0, -1.0]), v)])
    assert average(optimizer, v).tolist() == v.numpy().tolist() == [0, 0.625]


def steps(dtype="f4", **kwargs):
    """Dense, sparse and constrained variables; the bits of all that is kept."""
    shapes = [(70_001,), (9, 3), (), (5,)]
    generator = np.random.default_rng(3)
    values = [generator.normal(size=shape).astype(dtype) for shape in shapes]
    values[3] = values[3].astype("f8")
    bound = [None, None, np.abs, None]
    named = [Variable(v, name=f"v{i}", constraint=c) for i, (v, c) in enumerate(zip(values, bound))]
    optimizer = Adam(0.125, **{**EMA, "ema_overwrite_frequency": 3, **kwargs})
    for step in range(5):
        generator = np.random.default_rng([step, rank() if rank() < 2 else 9])
        grads = [
            (generator.integers(-8, 9, v.shape) / 8 * (rank() < 2)).astype(v.dtype) for v in named
        ]  # the same sum for 2 replicas and more
        if step % 2:
            grads[1] = IndexedSlices(grads[1][:2], np.array([0, 4]), (9, 3))
        optimizer.apply_gradients(list(zip(grads, named, strict=True)))
    return [w.numpy().tobytes() for w in [*named, *optimizer.weights]]


@pytest.mark.parametrize("memory", ["shared", "private"])
def test_all_layouts_have_the_same_bits(memory, monkeypatch):
    monkeypatch.setenv("DISTOPT_MEMORY", memory)
    two = on_replicas(2, steps)
    assert two[0] == two[1]
    assert on_replicas(3, steps) == [two[0]] * 3
    clipped = on_replicas(2, lambda: steps(gradient_transformers=[lambda pairs: pairs]))
    assert clipped == two  # the same by stages as in one pass


@pytest.mark.parametrize(
    ("argument", "values"),
    [("use_ema", (True, False)), ("ema_momentum", (0.5, 0.75)), ("ema_overwrite_frequency", (2, 3))],
)
def test_replicas_must_agree(argument, values):
    def program():
        v = Variable(np.ones(2, "f4"), name="v")
        optimizer = SGD(0.5, **{**EMA, argument: values[rank()]})
        with pytest.raises(ReplicaMismatch, match=f"{argument}={values[0]}"):
            optimizer.apply_gradients([(np.ones(2, "f4"), v)])
        assert v.numpy().tolist() == [1, 1]

    on_replicas(2, program)


def test_configs_hold_what_is_set():
    assert not {"use_ema", "ema_momentum"} & SGD().get_config().keys()
    config = Adam(0.5, use_ema=True, ema_overwrite_frequency=4).get_config()
    assert config["use_ema"] is True
    assert config["ema_overwrite_frequency"] == 4
    assert "ema_momentum" not in config
    again = get(serialize(Adam(0.5, **EMA)))
    assert (again.use_ema, again.ema_momentum, again.ema_overwrite_frequency) == (True, 0.75, None)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"ema_momentum": 1.5}, ValueError),
        ({"use_ema": "yes"}, TypeError),
        ({"ema_overwrite_frequency": 0}, ValueError),
    ],
)
def test_refused(arguments, error):
    with pytest.raises(error):
        SGD(**arguments)


def test_fit_leaves_the_averages_in_the_model():
    def program():
        generator = np.random.default_rng(0)
        x, y = generator.normal(size=(24, 3)).astype("f4"), generator.normal(size=(24, 1)).astype("f4")
        model = keras.Sequential([keras.layers.Dense(1, input_shape=(3,))])
        model.compile(SGD(0.125, **EMA), "mse")
        model.fit(x, y, batch_size=8, epochs=2, verbose=0)
        optimizer = model.optimizer
        return [(w.numpy().tolist(), average(optimizer, w).tolist()) for w in model.trainable_weights]

    first, second = on_replicas(2, program)
    assert first == second
    assert all(weight == mean for weight, mean in first)
