"""CheckpointManager in a JAX program: restarts with the same bits, and arrays and keys in states."""

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("safetensors")

import jax.numpy as jnp  # noqa: E402
from jax_precision import x64  # noqa: E402
from replicated import on_replicas  # noqa: E402

import distopt.jax as dj  # noqa: E402
from distopt.checkpoint import CheckpointManager  # noqa: E402
from distopt.checkpoint.encoding import decode, encode  # noqa: E402

pytestmark = pytest.mark.jax


@jax.jit
@jax.grad
def gradient(params, x):
    return jnp.tanh(x @ params["dense"]["kernel"] + params["dense"]["bias"].astype(jnp.float32)).sum()


def training(folder, steps, save_at=()):
    """Each replica's numbers come from its own key, which is saved on the way."""
    optimizer = dj.adam(0.1)
    start = {
        "dense": {"kernel": jnp.ones((6, 5)), "bias": jnp.zeros(5, jnp.bfloat16)},
        "steps": jnp.arange(2),
    }
    params, progress = optimizer.init(start), {"key": dj.key(3)}
    manager = CheckpointManager(folder, optimizer=optimizer, progress=progress)
    if manager.restore():
        params = optimizer.params
    while optimizer.count < steps:
        progress["key"], key = jax.random.split(progress["key"])
        params = optimizer.apply({**gradient_of(params, key), "steps": None})
        if optimizer.count in save_at:
            manager.save(background=True)
    manager.wait()
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params)], optimizer.count


def gradient_of(params, key):
    return gradient({"dense": params["dense"]}, jax.random.normal(key, (4, 6)))


@pytest.mark.parametrize("size", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_restart_has_the_same_bits(tmp_path, size):
    whole = on_replicas(size, lambda: training(tmp_path / "whole", 9))
    first = on_replicas(size, lambda: training(tmp_path / "parts", 7, {2, 5}))
    assert first != whole
    assert on_replicas(size, lambda: training(tmp_path / "parts", 9)) == whole


def test_another_pytree_is_refused(tmp_path):
    def save(params, restore=False):
        optimizer = dj.sgd(0.1)
        optimizer.init(params)
        manager = CheckpointManager(tmp_path, optimizer=optimizer)
        return manager.restore() if restore else manager.save()

    save({"w": jnp.ones(3)})
    assert save({"w": jnp.zeros(3)}, restore=True)
    with pytest.raises(ValueError, match=r"params\['w'\]"):
        save({"w": jnp.zeros(4)}, restore=True)
    with pytest.raises(ValueError, match=r"params\['v'\]"):
        save({"v": jnp.zeros(3)}, restore=True)


def test_arrays_and_keys_come_back_as_they_were():
    values = {
        "bfloat16": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3),
        "bool": jnp.array([True, False]),
        "int": jnp.int32(7),
        "complex": jnp.array([1 + 2j]),
        "empty": jnp.zeros((0, 3)),
        "key": jax.random.key(1),
        "keys": jax.random.split(jax.random.key(2, impl="rbg"), 3),
        "in a list": [1, {"x": jnp.ones(2)}],
    }
    arrays = []
    tree = encode(values, arrays, "values")
    found = decode(tree, lambda number, dtype, shape: arrays[number].astype(dtype).reshape(shape))
    assert jax.tree.structure(found) == jax.tree.structure(values)
    for mine, value in zip(jax.tree.leaves(found), jax.tree.leaves(values), strict=True):
        if isinstance(value, int):
            assert mine == value
            continue
        assert (type(mine), mine.dtype, mine.shape) == (type(value), value.dtype, value.shape)
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            mine, value = jax.random.uniform(mine.reshape(-1)[0]), jax.random.uniform(value.reshape(-1)[0])
        assert (mine == value).all()
    with pytest.raises(TypeError, match=r"values\['x'\] is an array of JAX of float8"):
        encode({"x": jnp.ones(2, jnp.float8_e4m3fn)}, [], "values")
    with x64(True):
        tree = encode(jnp.ones(2, jnp.float64), arrays := [], "values")
    with pytest.raises(ValueError, match="jax_enable_x64"):
        decode(tree, lambda number, dtype, shape: arrays[number])
