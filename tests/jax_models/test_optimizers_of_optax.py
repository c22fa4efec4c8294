"""Optimizers of ``distopt.optimizers`` that Keras has not: thirty steps beside optax."""

import numpy as np
import pytest

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

from golden.keras3.record import problem  # noqa: E402
from jax_precision import x64  # noqa: E402

from distopt import Variable, optimizers  # noqa: E402

pytestmark = pytest.mark.jax

STEPS = 30
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}  # of the largest value
BETAS = {"beta_1": 0.9, "beta_2": 0.99}
#: The class, its arguments; the function of optax and its arguments.
CASES = {
    "radam": (optimizers.RAdam, {"epsilon": 1e-6}, optax.radam, {"eps": 1e-6}),
    "radam, threshold": (optimizers.RAdam, {"threshold": 8.0}, optax.radam, {"threshold": 8.0}),
    "adabelief": (optimizers.AdaBelief, {}, optax.adabelief, {}),
    "adabelief, epsilon": (
        optimizers.AdaBelief,
        {"epsilon": 1e-4},
        optax.adabelief,
        {"eps": 1e-4, "eps_root": 1e-4},
    ),
}


def ends(chain, values, gradients):
    """The values after all steps of optax."""

    @jax.jit
    def step(gradient, state, params):
        updates, state = chain.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(jax.numpy.asarray, values)
    state = chain.init(params)
    for each in gradients:
        params, state = step(each, state, params)
    return jax.tree.map(np.asarray, params)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "case", [case if "," not in case else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_thirty_steps(case, dtype):
    cls, own, function, theirs = CASES[case]
    values, gradients = problem(dtype, STEPS)
    with x64(dtype == "float64"):
        expected = ends(function(0.01, b1=0.9, b2=0.99, **theirs), values, gradients)
    exact = np.dtype(dtype).type
    optimizer = cls(exact(0.01), **{name: exact(value) for name, value in BETAS.items()}, **own)
    variables = {name: Variable(value, name=name) for name, value in values.items()}
    for each in gradients:
        optimizer.apply_gradients([(each[name], v) for name, v in variables.items()])
    for name, v in variables.items():
        assert expected[name].dtype == v.dtype
        bound = TOLERANCE[dtype] * np.abs(expected[name]).max()
        np.testing.assert_allclose(v.numpy(), expected[name], rtol=0, atol=bound)


def test_weight_decay_is_that_of_a_chain():
    """Of the parameters before the step, scaled by the learning rate."""
    values, gradients = problem("float32", STEPS)
    chain = optax.chain(
        optax.scale_by_radam(b2=0.99), optax.add_decayed_weights(0.1), optax.scale_by_learning_rate(0.01)
    )
    expected = ends(chain, values, gradients)
    optimizer = optimizers.RAdam(0.01, beta_2=0.99, weight_decay=0.1)
    variables = {name: Variable(value, name=name) for name, value in values.items()}
    for each in gradients:
        optimizer.apply_gradients([(each[name], v) for name, v in variables.items()])
    for name, v in variables.items():
        bound = 1e-5 * np.abs(expected[name]).max()
        np.testing.assert_allclose(v.numpy(), expected[name], rtol=0, atol=bound)
