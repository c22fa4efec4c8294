"""Modules of Flax and Equinox are parameters by their pytrees."""

import numpy as np
import pytest

jax = pytest.importorskip("jax")
jnp = jax.numpy

import distopt.jax as dj  # noqa: E402

pytestmark = pytest.mark.jax
X = np.random.default_rng(0).normal(size=(16, 3)).astype("f4")


def falls(losses):
    return losses[-1] < 0.5 * losses[0]


def test_linen():
    linen = pytest.importorskip("flax.linen")
    model = linen.Dense(1)
    optimizer = dj.adam(0.1)
    params = optimizer.init(model.init(jax.random.key(0), X))
    step = jax.jit(jax.value_and_grad(lambda p: (model.apply(p, X) ** 2).mean()))
    losses = []
    for _ in range(20):
        loss, grads = step(params)
        losses.append(loss)
        params = optimizer.apply(grads)
    assert falls(losses)
    assert "params['params']['kernel']/mu" in optimizer.state_dict()


def test_nnx():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    graph, state = nnx.split(model, nnx.Param)
    optimizer = dj.sgd(0.1)
    state = optimizer.init(state)
    step = jax.jit(jax.value_and_grad(lambda s: (nnx.merge(graph, s)(X) ** 2).mean()))
    losses = []
    for _ in range(20):
        loss, grads = step(state)
        losses.append(loss)
        state = optimizer.apply(grads)
    nnx.update(model, state)
    assert falls(losses)
    np.testing.assert_allclose((model(X) ** 2).mean(), step(state)[0], rtol=1e-5)


def test_equinox():
    equinox = pytest.importorskip("equinox")
    model = equinox.nn.Sequential(
        [equinox.nn.Linear(3, 1, key=jax.random.key(0)), equinox.nn.Dropout(0.5, inference=True)]
    )
    optimizer = dj.sgd(0.1)
    model = optimizer.init(model)
    step = equinox.filter_jit(equinox.filter_value_and_grad(lambda m: (jax.vmap(m)(X) ** 2).mean()))
    losses = []
    for _ in range(20):
        loss, grads = step(model)
        losses.append(loss)
        model = optimizer.apply(grads)
    assert falls(losses)
    assert model.layers[1].p == 0.5
    assert any("layers[0].weight" in name for name in optimizer.state_dict())
