"""``distopt.jax.adafactor`` has the numbers of ``optax.adafactor``, with every option."""

import inspect

import numpy as np
import pytest

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

from jax_precision import x64  # noqa: E402
from replicated import on_replicas  # noqa: E402

import distopt.jax as dj  # noqa: E402

pytestmark = pytest.mark.jax

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
SHAPES = {
    "matrix": (7, 5),
    "image": (6, 2, 3, 5),
    "long": (9, 2, 4),
    "few": (3, 4),
    "bias": (5,),
    "scale": (),
}
SMALL = {"min_dim_size_to_factor": 4}
#: Optax computes the powers of steps in float32, whatever the dtype; this one is exact.
EXACT = {"decay_rate": 0.0}
CASES = [
    {},
    {**SMALL, "learning_rate": 0.1},
    {**SMALL, **EXACT, "learning_rate": 0.1, "momentum": 0.9, "weight_decay_rate": 0.01},
    {
        **SMALL,
        **EXACT,
        "learning_rate": 0.02,
        "multiply_by_parameter_scale": False,
        "clipping_threshold": None,
        "eps": 1e-3,
        "weight_decay_rate": 0.1,
        "weight_decay_mask": {name: name == "matrix" for name in SHAPES},
    },
    {
        **SMALL,
        "learning_rate": optax.exponential_decay(0.1, 5, 0.5),
        "decay_offset": -3,
        "clipping_threshold": 2.0,
    },
    {"factored": False, **SMALL, "learning_rate": 0.1, "weight_decay_rate": optax.linear_schedule(0.1, 0, 9)},
]


def values(seed, dtype):
    generator = np.random.default_rng(seed)
    found = {name: generator.normal(size=shape) for name, shape in SHAPES.items()}
    if seed > 1:
        found["matrix"][0] = 0
        found["few"][...] = 0
    return {name: np.asarray(value, dtype) for name, value in found.items()}


def theirs(options, dtype):
    optimizer = optax.adafactor(**options)
    params = jax.tree.map(jax.numpy.asarray, values(1, dtype))
    state = optimizer.init(params)

    @jax.jit
    def step(gradients, state, params):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    for i in range(30):
        params, state = step(values(i + 2, dtype), state, params)
    return params


def ours(options, dtype):
    optimizer = dj.adafactor(**options)
    optimizer.init(values(1, dtype))
    for step in range(30):
        params = optimizer.apply(values(step + 2, dtype))
    return optimizer, params


def assert_close(found, expected, bound):
    for name in SHAPES:
        got, want = np.asarray(found[name], "f8"), np.asarray(expected[name], "f8")
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_allclose(got, want, rtol=0, atol=bound * np.abs(want).max(), err_msg=name)


#: Optax compiles for seconds.
QUICK = CASES[1], CASES[4]


@pytest.mark.parametrize(
    "options",
    [pytest.param(case, marks=[] if case in QUICK else [pytest.mark.slow]) for case in CASES],
    ids=lambda options: "-".join(options) or "plain",
)
def test_thirty_steps(options):
    assert_close(ours(options, "float32")[1], theirs(options, "float32"), TOLERANCE["float32"])


def test_thirty_steps_in_float64():
    options = CASES[3]
    with x64(True):
        assert_close(ours(options, "float64")[1], theirs(options, "float64"), TOLERANCE["float64"])


def test_replicas_have_the_bits_of_one_and_a_state_goes_on():
    options = CASES[2]
    alone, expected = ours(options, "float32")
    for optimizer, params in on_replicas(2, lambda: ours(options, "float32")):
        for name in SHAPES:
            assert np.asarray(params[name]).tobytes() == np.asarray(expected[name]).tobytes()
        state = optimizer.state_dict()
        assert state.keys() == alone.state_dict().keys()
    again = dj.adafactor(**options)
    again.init(values(5, "float32"))
    again.load_state_dict(state)
    for optimizer in (again, alone):
        optimizer.apply(values(99, "float32"))
    assert_close(again.params, alone.params, 0)
    assert state["params['image']/v_row"].shape == (2, 3, 5)
    assert state["params['image']/v_col"].shape == (6, 2, 3)


def test_arguments_and_errors():
    own, its = (inspect.signature(module.adafactor).parameters for module in (dj, optax))
    taken = {key: value.default for key, value in own.items() if key != "options"}
    assert taken == {key: value.default for key, value in its.items()}
    with pytest.raises(ValueError, match="dtype_momentum must be float32"):
        dj.adafactor(dtype_momentum=np.float16)
    with pytest.raises(ValueError, match="decay_rate of adafactor"):
        dj.adafactor(decay_rate=-1)
    with pytest.raises(TypeError, match="real numbers"):
        dj.adafactor().init({"w": np.ones(3, np.complex64)})
