"""``distopt.jax.muon`` has the numbers of ``optax.contrib.muon``."""

import inspect

import numpy as np
import pytest

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

from jax_precision import x64  # noqa: E402
from optax import contrib  # noqa: E402
from replicated import on_replicas  # noqa: E402

import distopt.jax as dj  # noqa: E402

if not hasattr(contrib, "MuonDimensionNumbers"):
    pytest.skip("this optax has muon for matrices only", allow_module_level=True)
muon, Axes = contrib.muon, contrib.MuonDimensionNumbers
pytestmark = pytest.mark.jax

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
SHAPES = {"tall": (7, 4), "wide": (3, 8), "heads": (4, 2, 3), "bias": (5,), "scale": ()}
DIMENSIONS = {"tall": Axes(1, 0), "wide": None, "heads": Axes(0, (1, -1)), "bias": None, "scale": None}
#: Schedules are exact in float32, in which optax computes them, whatever the dtype.
CASES = {
    "plain": {"learning_rate": 0.02},
    "dion": {
        "learning_rate": optax.linear_schedule(0.0625, 0.03125, 8),
        "ns_coeffs": "dion",
        "weight_decay": 0.1,
        "weight_decay_mask": {name: name != "wide" for name in SHAPES},
        "adam_weight_decay": 0.2,
        "adam_learning_rate": optax.linear_schedule(0.125, 0.0625, 8),
        "consistent_rms": 0.2,
    },
    "dimensions": {
        "learning_rate": 0.02,
        "ns_coeffs": (2.0, -1.5, 0.5),
        "ns_steps": 3,
        "beta": 0.8,
        "eps": 1e-6,
        "nesterov": False,
        "preconditioning": "aol",
        "adam_b1": 0.8,
        "adam_b2": 0.9,
        "adam_eps_root": 1e-4,
        "muon_weight_dimension_numbers": lambda params: {name: DIMENSIONS[name] for name in params},
    },
    "adaptive": {
        "learning_rate": 0.002,
        "adaptive": True,
        "preconditioning": "schatten",
        "adam_b2": 0.9,
        "muon_weight_dimension_numbers": {**DIMENSIONS, "heads": Axes(2, 0)},
    },
}


def values(seed, dtype):
    draw = np.random.default_rng(seed).normal
    return {name: np.asarray(draw(size=shape), dtype) for name, shape in SHAPES.items()}


def theirs(options, dtype):
    optimizer = muon(**{**options, "adam_b2": options.get("adam_b2", 0.9)})
    params = jax.tree.map(jax.numpy.asarray, values(1, dtype))
    state = optimizer.init(params)

    @jax.jit
    def step(gradients, state, params):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    for i in range(30):
        params, state = step(values(i + 2, dtype), state, params)
    return params


def ours(options, dtype, steps=30):
    # In float32, optax takes 1 - b2**s from rounded powers, which for 0.999 is wrong by 3e-5 at first.
    optimizer = dj.muon(**{**options, "adam_b2": options.get("adam_b2", 0.9)})
    params = optimizer.init(values(1, dtype))
    for step in range(steps):
        params = optimizer.apply(values(step + 2, dtype))
    return optimizer, params


def assert_close(found, expected, bound):
    for name in SHAPES:
        got, want = np.asarray(found[name], "f8"), np.asarray(expected[name], "f8")
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_allclose(got, want, rtol=0, atol=bound * np.abs(want).max(), err_msg=name)


@pytest.mark.parametrize(
    "case", [c if c == "dion" else pytest.param(c, marks=pytest.mark.slow) for c in CASES]
)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_thirty_steps(case, dtype):
    with x64(dtype == "float64"):
        expected = theirs(CASES[case], dtype)
        assert_close(ours(CASES[case], dtype)[1], expected, TOLERANCE[dtype])


def test_replicas_have_the_bits_of_one_and_a_state_goes_on():
    alone, expected = ours(CASES["dimensions"], "float32", 6)
    state = ours(CASES["dimensions"], "float32", 3)[0].state_dict()
    assert {"params['heads']/mu", "params['wide']/mu", "params['wide']/nu"} < state.keys()
    assert "params['heads']/nu" not in state

    def resumed():
        optimizer = dj.muon(**CASES["dimensions"])
        optimizer.init(values(9, "float32"))
        optimizer.load_state_dict(state)
        for step in range(3, 6):
            params = optimizer.apply(values(step + 2, "float32"))
        return params

    for params in on_replicas(4, resumed):
        assert_close(params, expected, 0)
    assert alone.count == 6


def test_arguments_and_errors():
    own, its = (inspect.signature(function).parameters for function in (dj.muon, muon))
    taken = {key: value.default for key, value in own.items() if key != "options"}
    assert taken == {key: value.default for key, value in its.items()}
    for wrong, message in {
        "spectral": "'spectral' is not supported",
        "other": "preconditioning of muon",
    }.items():
        with pytest.raises(ValueError, match=message):
            dj.muon(0.1, preconditioning=wrong)
    with pytest.raises(ValueError, match="three numbers"):
        dj.muon(0.1, ns_coeffs=(1.0, 2.0))
    with pytest.raises(ValueError, match="those of 5 steps, but ns_steps is 4"):
        dj.muon(0.1, ns_coeffs="dion", ns_steps=4)
    with pytest.raises(ValueError, match="mu_dtype must be None"):
        dj.muon(0.1, mu_dtype=np.float16)
    with pytest.raises(ValueError, match=r"beta of muon\(\)"):
        dj.muon(0.1, beta=1.0)
    for numbers, message in (
        ({"w": Axes(0, 3)}, r"of params\['w'\] names axes \[3\]"),
        ({"w": Axes(0, -2)}, "different axes"),
        ({"v": None}, "must be a pytree of MuonDimensionNumbers and None like the parameters"),
        ({"w": 3}, r"has .*3.* for params\['w'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            dj.muon(0.1, muon_weight_dimension_numbers=numbers).init({"w": np.ones((2, 3), "f4")})
