"""Optimizers for pytrees: the numbers of optax, arrays that never change, and leaves of all kinds."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

jax = pytest.importorskip("jax")
jnp = jax.numpy
optax = pytest.importorskip("optax")

from jax_precision import x64  # noqa: E402
from replicated import on_replicas, rank  # noqa: E402

import distopt.jax as dj  # noqa: E402
from distopt.errors import ReplicaFailed, ReplicaMismatch  # noqa: E402

pytestmark = pytest.mark.jax

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 3)).astype("f4"), RNG.normal(size=(12, 2)).astype("f4")


def params():
    draw = np.random.default_rng(1).normal
    return {
        "dense": {"kernel": jnp.asarray(draw(size=(3, 2)), "f4"), "bias": jnp.zeros(2)},
        "steps": jnp.arange(3),
    }


@jax.jit
def loss(params, x, y):
    return ((x @ params["dense"]["kernel"] + params["dense"]["bias"] - y) ** 2).mean()


gradient = jax.jit(jax.grad(loss, allow_int=True))


def whole(optimizer, steps, start=None):
    """What optax makes of the layer's parameters on all examples."""
    now = dict(start or params())
    layer = now["dense"]
    state = optimizer.init(layer)
    for _ in range(steps):
        updates, state = optimizer.update(gradient({**now, "dense": layer}, X, Y)["dense"], state, layer)
        layer = optax.apply_updates(layer, updates)
    return layer


def assert_close(found, expected, tolerance=1e-5):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        f, e = np.asarray(one, "f8"), np.asarray(other, "f8")
        assert np.abs(f - e).max(initial=0) <= tolerance * max(np.abs(e).max(initial=0), 1.0)


def trained(optimizer, steps=20, weights=False):
    now = optimizer.init(params())
    # Replica 0 has more examples than the others.
    bounds = [0, 6, 12] if not weights else [0, 9, 12]
    x, y = (a[bounds[rank()] : bounds[rank() + 1]] if dj.size() > 1 else a for a in (X, Y))
    for _ in range(steps):
        grads = gradient(now, x, y)
        now = optimizer.apply(grads, examples=len(x) if weights else None)
    return now


def test_replicas_train_as_one_process_does_with_optax():
    schedule = optax.join_schedules(
        [optax.linear_schedule(0.0, 0.05, 5), optax.cosine_decay_schedule(0.05, 15)], [5]
    )
    mask = {"dense": {"kernel": True, "bias": False}, "steps": False}
    theirs = optax.chain(
        optax.clip_by_global_norm(0.3), optax.adamw(schedule, weight_decay=0.1, mask=mask["dense"])
    )
    expected = whole(theirs, 20)

    def program():
        optimizer = dj.adamw(schedule, weight_decay=0.1, mask=mask, clip_by_global_norm=0.3)
        assert "clip global norm 0.3 -> adamw(learning_rate=schedule" in optimizer.describe()
        return trained(optimizer)

    for replicas in (1, 2):
        results = on_replicas(replicas, program)
        for found in results:
            assert_close(found["dense"], expected)
            np.testing.assert_array_equal(found["steps"], np.arange(3))
            for leaf, first in zip(*map(jax.tree.leaves, (found, results[0])), strict=True):
                np.testing.assert_array_equal(leaf, first)


def test_unequal_shares_weigh_as_many_examples_as_they_have():
    for found in on_replicas(2, lambda: trained(dj.sgd(0.1, momentum=0.9), weights=True)):
        assert_close(found["dense"], whole(optax.sgd(0.1, momentum=0.9), 20))


def test_the_learning_rate_may_be_set_on_the_way():
    optimizer = dj.sgd(0.5)
    optimizer.init({"w": jnp.ones(2)})
    optimizer.apply({"w": jnp.ones(2)})
    optimizer.learning_rate = 0.25
    np.testing.assert_allclose(optimizer.apply({"w": jnp.ones(2)})["w"], 0.25)
    optimizer.learning_rate = lambda count: 0.01 * count
    np.testing.assert_allclose(optimizer.apply({"w": jnp.ones(2)})["w"], 0.23)
    assert optimizer.count == 3
    optimizer.learning_rate = lambda count: float("nan")
    with pytest.raises(ValueError, match="learning_rate at step 3 must be a finite number"):
        optimizer.apply({"w": jnp.ones(2)})
    with pytest.raises(TypeError, match="learning_rate of sgd must be a number"):
        optimizer.learning_rate = "fast"


def test_arrays_never_change():
    """Neither those kept, nor donated ones, nor what a computation reads that was dispatched just before."""
    big = jnp.ones((600, 600))
    optimizer = dj.sgd(1.0)
    now = optimizer.init({"w": big})
    evaluate = jax.jit(lambda p: (p["w"] @ p["w"] @ p["w"]).sum())
    kept, results, views = [], [], []
    for _ in range(6):
        kept.append(now)
        views.append(np.asarray(now["w"]))
        results.append(evaluate(now))
        now = optimizer.apply({"w": jnp.ones_like(big)})
    for i, (one, view, result) in enumerate(zip(kept, views, results, strict=True)):
        assert (np.asarray(one["w"]) == 1.0 - i).all()
        assert (view == 1.0 - i).all()
        np.testing.assert_allclose(result, (1.0 - i) ** 3 * 600.0**4, rtol=1e-5)
    assert (big == 1).all()
    donating = jax.jit(lambda p: jax.tree.map(lambda x: x * 0 + 7, p), donate_argnums=0)
    other = donating(now)
    now = optimizer.apply({"w": jnp.ones_like(big)})
    assert (np.asarray(now["w"]) == -6).all()
    assert (np.asarray(other["w"]) == 7).all()


def test_memory_is_used_again_once_jax_has_released_it():
    optimizer = dj.sgd(1.0)
    optimizer.init({"w": jnp.ones((300, 300))})
    places = set()
    for _ in range(20):
        now = optimizer.apply({"w": jnp.ones((300, 300))})
        places.add(now["w"].unsafe_buffer_pointer())
    assert len(places) <= 4


def test_leaves_of_all_kinds():
    weak = jnp.asarray(1.0)
    full = jnp.full((2,), 1.0)
    assert weak.weak_type
    assert full.weak_type
    tree = {
        "weak": [weak, full],
        "narrow": jnp.ones(3, jnp.bfloat16),
        "half": np.ones(3, np.float16),
        "complex": jnp.full(2, 1 + 1j),
        "empty": jnp.zeros((0, 2)),
        "int": jnp.arange(2),
        "bool": np.array([True]),
        "none": None,
        "key": jax.random.key(0),
        "function": jax.nn.relu,
        "python": 0.5,
        "left out": jnp.ones(2),
        "transposed": jnp.arange(6.0).reshape(2, 3).T,
    }
    trained_ones = ("weak", "narrow", "half", "complex", "transposed")

    def program():
        optimizer = dj.adam(0.25)
        own = {**tree, "int": tree["int"] + rank()}
        now = optimizer.init(own)
        grads = dict.fromkeys(tree) | {
            name: jax.tree.map(lambda x: x * 0 + 1, now[name]) for name in trained_ones
        }
        return now, optimizer.apply(grads)

    for replicas in (1, 2):
        for before, now in on_replicas(replicas, program):
            assert [leaf.weak_type for leaf in now["weak"]] == [True, True]
            assert now["narrow"].dtype == jnp.bfloat16
            assert now["half"].dtype == jnp.float16
            for name in trained_ones:  # by the rate, however large the gradient is
                for leaf, old in zip(*map(jax.tree.leaves, (now[name], before[name])), strict=True):
                    np.testing.assert_allclose(np.asarray(leaf - old, "c8"), -0.25, rtol=1e-2)
            np.testing.assert_array_equal(now["int"], [0, 1])  # replica 0's
            np.testing.assert_array_equal(now["left out"], [1, 1])
            assert now["function"] is jax.nn.relu
            assert now["python"] == 0.5
            assert now["none"] is None
            assert now["empty"].shape == (0, 2)
            assert isinstance(now["bool"], np.ndarray)


def test_double_precision_is_kept_where_jax_has_it():
    for wide, dtype in ((True, "float64"), (False, "float32")):
        with x64(wide):
            optimizer = dj.sgd(1e-10)
            optimizer.init({"w": np.ones(2)})
            now = optimizer.apply({"w": np.ones(2)})["w"]
            assert now.dtype == dtype
            assert (float(now[0]) == 1 - 1e-10) is wide


def test_the_state_goes_on_where_it_was_saved():
    optimizer = dj.adam(0.1)
    optimizer.init(params())
    grads = gradient(params(), X, Y)
    optimizer.apply(grads)
    saved = optimizer.state_dict()
    assert set(saved) >= {"count", "params['dense']['kernel']", "params['dense']['bias']/nu"}
    assert all(type(value) is np.ndarray for value in saved.values())
    expected = optimizer.apply(grads)

    def program(both):
        other = dj.adam(0.1)
        other.init(jax.tree.map(jnp.zeros_like, params()))
        if both or rank() == 0:
            other.load_state_dict(saved)
        return other.apply(grads)

    for found in on_replicas(2, lambda: program(True)):
        assert_close(found["dense"], expected["dense"], 1e-7)
    with pytest.raises(ReplicaMismatch, match=r"params\['dense'\]\['kernel'\]"):
        on_replicas(2, lambda: program(False))
    wrong = {**saved, "params['dense']['bias']/mu": np.zeros(3)}
    with pytest.raises(
        ValueError, match=r"params\['dense'\]\['bias'\]/mu\W+has shape \(3,\), here it has \(2,\)"
    ):
        optimizer.load_state_dict(wrong)
    with pytest.raises(KeyError, match="no 'count'"):
        optimizer.load_state_dict({})
    with pytest.raises(ValueError, match=r"has 'cuont', which does not exist here. Did you mean 'count'"):
        optimizer.load_state_dict({**saved, "cuont": 1})
    assert_close(optimizer.params, expected, 0)


def test_parameters_may_be_set_between_steps():
    def program(everyone):
        optimizer = dj.sgd(1.0)
        optimizer.init({"w": jnp.ones(2)})
        if everyone or rank():
            optimizer.params = {"w": jnp.full(2, 5.0)}
            assert float(optimizer.params["w"][0]) == 5
        return optimizer.apply({"w": jnp.ones(2)})["w"]

    for found in on_replicas(2, lambda: program(True)):
        np.testing.assert_array_equal(found, [4, 4])
    with pytest.raises(ReplicaMismatch, match=r"params\['w'\]"):
        on_replicas(2, lambda: program(False))


def one_step(grads, **options):
    optimizer = dj.adam(0.1, **options)
    optimizer.init({"dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}, "scale": 0.5})
    return optimizer.apply(grads)


GRADS = {"dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}, "scale": None}


def layer(kernel, bias=None):
    return {"dense": {"kernel": kernel, "bias": bias}, "scale": None}


@pytest.mark.parametrize(
    ("grads", "error", "words"),
    [
        (layer(jnp.ones((2, 3))), ValueError, "['kernel'] has shape (2, 3), the parameter (3, 2)"),
        (layer("x"), TypeError, "gradient of params['dense']['kernel'] must be an array of numbers"),
        (layer(jnp.full((3, 2), 1j)), TypeError, "dtype complex64, the parameter float32"),
        (layer(None), ValueError, "no leaf has a gradient"),
        ({**GRADS, "dense": {"kernel": None}}, ValueError, "lacks params['dense']['bias']"),
        ({**GRADS, "more": jnp.ones(2)}, ValueError, "also has params['more']"),
        ({**GRADS, "scale": jnp.ones(())}, TypeError, "params['scale'] is a Python number"),
    ],
)
def test_wrong_gradients_are_named(grads, error, words):
    with pytest.raises(error) as caught:
        one_step(grads)
    assert words in str(caught.value)


def test_what_replicas_do_otherwise_is_named():
    with pytest.raises(ReplicaMismatch, match=r"without a gradient of params\['dense'\]\['bias'\]"):
        on_replicas(
            2, lambda: one_step(GRADS if rank() else {**GRADS, "dense": {**GRADS["dense"], "bias": None}})
        )
    with pytest.raises(ReplicaMismatch, match=r"params\['w'\]"):
        on_replicas(2, lambda: dj.adam(0.1).init({"w": jnp.ones(2 + rank())}))
    with pytest.raises((ReplicaFailed, ValueError), match="lacks"):
        on_replicas(2, lambda: one_step({} if rank() else GRADS))
    with pytest.raises(ReplicaMismatch, match="clip"):
        on_replicas(2, lambda: one_step(GRADS, clip=0.5 if rank() else None))


def test_a_wrong_count_of_examples_stops_all_and_no_later_step():
    def program():
        optimizer = dj.sgd(0.5)
        optimizer.init(jnp.ones(2))
        with pytest.raises(
            ValueError if rank() else ReplicaFailed, match="takes a count, 0 or more; got nan"
        ):
            optimizer.apply(jnp.ones(2), examples=float("nan") if rank() else 1)
        return optimizer.apply(jnp.ones(2)).tolist()

    assert on_replicas(2, program) == [[0.5, 0.5]] * 2


def test_words_for_what_is_not_there():
    with pytest.raises(RuntimeError, match=r"apply\(\) of adam was called before init\(params\)"):
        dj.adam(0.1).apply({})
    with pytest.raises(TypeError, match="inside jit, grad or vmap"):
        jax.jit(dj.adam(0.1).init)({"w": jnp.ones(2)})
    with pytest.raises(ValueError, match="no leaf to train"):
        dj.adam(0.1).init({"n": jnp.arange(3)})
    with pytest.raises(ValueError, match=r"b1 of adam\(\) must be in \[0, 1\)"):
        dj.adam(0.1, b1=1.0)
    with pytest.raises(ValueError, match="mu_dtype must be None"):
        dj.adam(0.1, mu_dtype=jnp.bfloat16)
    with pytest.raises(TypeError, match="clip_by_global_norm"):
        dj.adam(0.1, clip_by_globalnorm=1.0)
    with pytest.raises(AttributeError, match=r"optax.chain\(distopt.jax.aggregate\(\), optax.lbfgs\(...\)\)"):
        _ = dj.lbfgs
    with pytest.raises(ValueError, match="mask of adamw must be a pytree of Booleans"):
        dj.adamw(0.1, mask={"v": True}).init({"w": jnp.ones(2)})


def test_arrays_on_gpus_are_refused_by_name(monkeypatch):
    """The array says that it is on one."""
    here, elsewhere = jnp.ones(2), SimpleNamespace(platform="cuda")
    optimizer = dj.sgd(0.1)
    optimizer.init({"w": here})
    monkeypatch.setattr(type(here), "devices", lambda _: [elsewhere])
    words = r"params\['w'\] is on cuda: distopt.jax trains on the CPUs of an MPI job; .* use jax.distributed"
    for call in (dj.adam(0.1).init, optimizer.apply):
        with pytest.raises(ValueError, match=words):
            call({"w": here})
    monkeypatch.undo()
    assert optimizer.count == 0
    assert optimizer.apply({"w": here})["w"].tolist() == [np.float32(0.9)] * 2


def test_shards_and_keys_are_each_replicas_own():
    batches = [{"x": np.arange(7), "y": jnp.ones((7, 2)), "scale": 3.0}]
    parts = on_replicas(3, lambda: next(iter(dj.shard(batches))))
    assert [part["x"].tolist() for part in parts] == [[0, 1, 2], [3, 4], [5, 6]]
    assert [part["y"].shape for part in parts] == [(3, 2), (2, 2), (2, 2)]
    assert parts[2]["scale"] == 3.0
    with pytest.raises(ValueError, match=r"batch 0 differ in length: \[2, 3\]"):
        next(dj.shard([(np.ones(2), np.ones(3))]))
    with pytest.raises(ValueError, match="batch 0 has 2 examples for 3 replicas"):
        on_replicas(3, lambda: next(dj.shard([np.ones(2)])))
    draws = on_replicas(3, lambda: float(jax.random.normal(dj.key(5))))
    assert len(set(draws)) == 3
    assert draws[:2] == on_replicas(2, lambda: float(jax.random.normal(dj.key(5))))


def test_the_norm_of_leaves_of_several_dtypes_is_clipped_as_optax_does():
    tree = {"a": jnp.ones(3), "b": jnp.ones(2, jnp.bfloat16), "c": jnp.full(2, 1 + 2j)}
    optimizer = dj.sgd(1.0, clip_by_global_norm=0.5)
    optimizer.init(tree)
    found = optimizer.apply(tree)
    clipped, _ = optax.clip_by_global_norm(0.5).update(tree, optax.EmptyState())
    for name, leaf in tree.items():
        expected = np.asarray(leaf, "c8") - np.asarray(clipped[name], "c8")
        np.testing.assert_allclose(np.asarray(found[name], "c8"), expected, rtol=4e-3)


def test_statistics_name_who_is_late():
    def program():
        optimizer = dj.sgd(0.1)
        now = optimizer.init(params())
        for step in range(10):
            time.sleep(0.02 if rank() == 1 else 0)
            now = optimizer.apply(gradient(now, X, Y))
            if step == 1:  # what compiles is over
                before = np.array(optimizer.stats()["cost"]["own code"])
        stats = optimizer.stats()
        return stats, np.array(stats["cost"]["own code"]) - before

    for found, cost in on_replicas(2, program):
        assert (found["iterations"], found["replicas"]) == (10, 2)
        assert cost[1] >= 0.8 * 8 * 0.02 > 2 * cost[0]
    optimizer = dj.sgd(0.1)
    optimizer.init(params())
    assert optimizer.stats()["iterations"] == 0
