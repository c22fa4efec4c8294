"""``distopt.jax.schedule_free`` and its relatives have the numbers of ``optax.contrib``."""

import inspect

import numpy as np
import pytest

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

from jax_precision import x64  # noqa: E402
from optax import contrib  # noqa: E402
from replicated import on_replicas  # noqa: E402

import distopt.jax as dj  # noqa: E402

pytestmark = pytest.mark.jax

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
SHAPES = {"kernel": (7, 5), "scale": ()}
#: Exact in float32, in which optax computes schedules, whatever the dtype.
RISING = optax.linear_schedule(0.03125, 0.09375, 8)
#: What makes the optimizer, of a module like optax and one like optax.contrib.
CASES = {
    "adamw": lambda _, c: c.schedule_free_adamw(0.125, 4, 0.8, 0.95, 1e-6, 0.1),
    "sgd": lambda _, c: c.schedule_free_sgd(0.1, b1=0.95, weight_decay=0.1, weight_lr_power=1.0),
    "schedules": lambda o, c: c.schedule_free(
        o.adamw(RISING, b1=0.0, b2=0.9, weight_decay=0.2, mask={"kernel": True, "scale": False}),
        RISING,
        b1=0.7,
    ),
    "zero": lambda o, c: c.schedule_free(
        o.adam(0.1, b1=0.0, b2=0.9), optax.piecewise_constant_schedule(0.0, {3: 1.0})
    ),
}


def values(seed, dtype):
    draw = np.random.default_rng(seed).normal
    return {name: np.asarray(draw(size=shape), dtype) for name, shape in SHAPES.items()}


def theirs(case, dtype):
    """The parameters, those to evaluate, and the state."""
    optimizer = CASES[case](optax, contrib)
    params = jax.tree.map(jax.numpy.asarray, values(1, dtype))
    state = optimizer.init(params)

    @jax.jit
    def step(gradients, state, params):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    for i in range(30):
        params, state = step(values(i + 2, dtype), state, params)
    return params, contrib.schedule_free_eval_params(state, params), state


def ours(case, dtype, steps=30):
    optimizer = CASES[case](dj, dj)
    params = optimizer.init(values(1, dtype))
    for step in range(steps):
        params = optimizer.apply(values(step + 2, dtype))
    return optimizer, params, dj.schedule_free_eval_params(optimizer)


def assert_close(found, expected, bound):
    for name in SHAPES:
        got, want = np.asarray(found[name], "f8"), np.asarray(expected[name], "f8")
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_allclose(got, want, rtol=0, atol=bound * np.abs(want).max(), err_msg=name)


@pytest.mark.parametrize(
    "case", [c if c == "adamw" else pytest.param(c, marks=pytest.mark.slow) for c in CASES]
)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_thirty_steps(case, dtype):
    with x64(dtype == "float64"):
        params, means, state = theirs(case, dtype)
        optimizer, own, own_means = ours(case, dtype)
    assert_close(own, params, TOLERANCE[dtype])
    assert_close(own_means, means, TOLERANCE[dtype])
    kept = optimizer.state_dict()
    z = {name: kept[f"params['{name}']/z"] for name in SHAPES}
    assert_close(z, {name: np.asarray(value) for name, value in state.z.items()}, TOLERANCE[dtype])
    np.testing.assert_allclose(kept["weight_sum"], state.weight_sum, rtol=1e-5)
    np.testing.assert_allclose(kept["max_lr"], state.max_lr, rtol=1e-5)


def test_replicas_have_the_bits_of_one_and_a_state_goes_on():
    alone, expected, means = ours("adamw", "float32", 6)
    state = ours("adamw", "float32", 3)[0].state_dict()

    def resumed():
        optimizer = CASES["adamw"](dj, dj)
        optimizer.init(values(9, "float32"))
        optimizer.load_state_dict(state)
        for step in range(3, 6):
            params = optimizer.apply(values(step + 2, "float32"))
        return params, dj.schedule_free_eval_params(optimizer), optimizer.state_dict()

    for params, its_means, kept in on_replicas(4, resumed):
        assert_close(params, expected, 0)
        assert_close(its_means, means, 0)
        assert kept["weight_sum"] == alone.state_dict()["weight_sum"]
    with pytest.raises(KeyError, match="weight_sum"):
        alone.load_state_dict({k: v for k, v in state.items() if k != "weight_sum"})


def test_complex_leaves_and_narrow_ones():
    optimizer = dj.schedule_free_sgd(0.5)
    optimizer.init({"c": np.ones(3, np.complex64), "b": jax.numpy.ones(3, jax.numpy.bfloat16)})
    params = optimizer.apply({"c": np.full(3, 1j, np.complex64), "b": np.ones(3, np.float32)})
    np.testing.assert_allclose(params["c"], np.full(3, 1 - 0.5j), rtol=1e-6)  # the first x is z
    assert (params["b"] == 0.5).all()
    assert (dj.schedule_free_eval_params(optimizer)["b"] == 0.5).all()


def test_arguments_and_errors():
    for name in ("schedule_free", "schedule_free_sgd", "schedule_free_adamw"):
        own, its = (inspect.signature(getattr(m, name)).parameters for m in (dj, contrib))
        taken = {key: value.default for key, value in own.items() if key != "options"}
        assert taken == {key: value.default for key, value in its.items()}
    for base in (dj.adafactor(), dj.lamb(0.1), dj.schedule_free_sgd()):
        with pytest.raises(TypeError, match="each element independently"):
            dj.schedule_free(base, 0.1)
    with pytest.raises(TypeError, match=r"optimizer of distopt\.jax; got"):
        dj.schedule_free(optax.sgd(0.1), 0.1)
    with pytest.raises(ValueError, match=r"b1 of schedule_free_sgd\(\) must be above 0"):
        dj.schedule_free_sgd(b1=0.0)
    with pytest.raises(ValueError, match="state_dtype must be None"):
        dj.schedule_free_adamw(state_dtype=np.float16)
    base = dj.sgd(0.1)
    base.init({"w": np.ones(3, "f4")})
    with pytest.raises(ValueError, match="has been initialized"):
        dj.schedule_free(base, 0.1)
    with pytest.raises(TypeError, match="takes a schedule-free optimizer"):
        dj.schedule_free_eval_params(base)
    with pytest.raises(RuntimeError, match="before init"):
        dj.schedule_free_eval_params(dj.schedule_free_sgd())
