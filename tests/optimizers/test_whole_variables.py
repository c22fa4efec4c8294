"""Muon and Adafactor: slots, dtypes, owners, products. Their numbers are in test_keras3.py."""

import copy
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from distopt import IndexedSlices, Variable
from distopt.checkpoint import CheckpointManager
from distopt.engine.products import gram, product
from distopt.optimizers import Adafactor, Muon, muon
from distopt.optimizers.newton_schulz import COEFFICIENTS, frobenius_norm, newton_schulz
from tests.replicated import on_replicas, rank

SHAPES = {"dense": (6, 9), "embedding": (5, 4), "image": (2, 3, 4), "bias": (4,)}


def variables(dtype="f4"):
    generator = np.random.default_rng(1)
    return [Variable(generator.normal(size=s).astype(dtype), name=name) for name, s in SHAPES.items()]


def pairs(own, step, dtype="f4"):
    generator = np.random.default_rng([2, step])
    return [(generator.normal(size=v.shape).astype(dtype), v) for v in own]


def digest(optimizer, own):
    data = b"".join(np.asarray(v).tobytes() for v in [*own, *optimizer.weights])
    return hashlib.sha256(data).hexdigest()


# -- products of matrices
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (7, 300, 17), (0, 3, 2), (2, 0, 3), (300, 20, 61)])
def test_products(m, k, n, dtype):
    generator = np.random.default_rng(3)
    a, b = generator.normal(size=(m, k)).astype(dtype), generator.normal(size=(k, n)).astype(dtype)
    exact = a.astype("f8") @ b.astype("f8")
    bound = 4 * k * np.finfo(dtype).eps
    np.testing.assert_allclose(product(a, b), exact, atol=bound)
    np.testing.assert_array_equal(product(np.asfortranarray(a), b[:, ::-1]), product(a, b)[:, ::-1])
    np.testing.assert_array_equal(gram(a), product(a, a.T))
    np.testing.assert_array_equal(gram(a), gram(a).T)


def test_singular_values_come_near_1_and_their_vectors_stay():
    x = np.random.default_rng(4).normal(size=(40, 25)).astype("f4")
    u, _, v = np.linalg.svd(x, full_matrices=False)
    turned = u.T @ newton_schulz(x / frobenius_norm(x), 5, COEFFICIENTS) @ v.T
    values = np.diag(turned)
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert np.abs(turned - np.diag(values)).max() < 1e-4


THREADS = """
import numpy as np
from distopt import Variable
from distopt.optimizers import Adafactor, Muon
generator = np.random.default_rng(5)
w = Variable(generator.normal(size=(300, 200)).astype("f4"), name="w")
for optimizer in (Muon(), Adafactor()):
    for _ in range(2):
        optimizer.apply_gradients([(generator.normal(size=w.shape).astype("f4"), w)])
import hashlib
print(hashlib.sha256(w.numpy().tobytes()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.launches
def test_the_threads_of_a_blas_change_no_bit():
    found = set()
    for threads in ("1", "2"):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        env = {**os.environ, **dict.fromkeys(names, threads)}
        done = subprocess.run([sys.executable, "-c", THREADS], env=env, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr.decode()
        found.add(done.stdout)
    assert len(found) == 1


# -- who updates what
def test_matrices_are_dealt_out_by_what_they_cost(monkeypatch):
    """The long one has most elements; to orthogonalize it is cheap."""
    done = []
    real = muon.newton_schulz

    def noted(x, steps, coefficients):
        done.append((rank(), x.shape))
        return real(x, steps, coefficients)

    monkeypatch.setattr(muon, "newton_schulz", noted)

    def program():
        shapes = [(2, 6000), (100, 100), (90, 90), (80, 80)]
        own = [Variable(np.ones(s, "f4"), name=f"v{i}") for i, s in enumerate(shapes)]
        Muon(ns_steps=60).apply_gradients([(np.ones(v.shape, "f4"), v) for v in own])

    on_replicas(2, program)
    by_rank = [{shape for r, shape in done if r == k} for k in (0, 1)]
    assert sorted(by_rank, key=len) == [{(100, 100), (2, 6000)}, {(90, 90), (80, 80)}] or (
        {(100, 100)} in by_rank and {(90, 90), (80, 80), (2, 6000)} in by_rank
    )


def test_what_adam_updates():
    own = [Variable(np.ones((3, 2), "f4"), name=n) for n in ("a/kernel", "Embedding/table", "head/kernel")]
    own.append(Variable(np.ones(3, "f4"), name="a/bias"))
    optimizer = Muon(exclude_layers=["^head"])
    optimizer.apply_gradients([(np.ones(v.shape, "f4"), v) for v in own])
    slots = [["momentum" in w.name, "velocity" in w.name] for w in optimizer.weights[1:]]
    assert slots == [[True, False], *[[True, False], [False, True]] * 3]
    again = Muon.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    endings = Muon(exclude_layers=["kernel$"])  # the ":0" at the end of a name is not part of it
    endings.apply_gradients([(np.ones(v.shape, "f4"), v) for v in own[:1]])
    assert endings.get_slot_names() == ["momentum", "velocity"]
    everything = Muon(exclude_embeddings=False)
    everything.apply_gradients([(np.ones(v.shape, "f4"), v) for v in own[:3]])
    assert everything.get_slot_names() == ["momentum"]


# -- slots of other shapes
def test_slots_of_rows_and_columns():
    own, optimizer = variables(), Adafactor()
    optimizer.apply_gradients(pairs(own, 0))
    shapes = {w.name: w.shape for w in optimizer.weights[1:]}
    assert shapes == {
        "Adafactor/dense/row:0": (6,),
        "Adafactor/dense/column:0": (9,),
        "Adafactor/embedding/row:0": (5,),
        "Adafactor/embedding/column:0": (4,),
        "Adafactor/image/row:0": (2, 3),
        "Adafactor/image/column:0": (2, 4),
        "Adafactor/bias/velocity:0": (4,),
    }
    (twin, copies), other, more = copy.deepcopy((optimizer, own)), Adafactor(), variables()
    other.apply_gradients(pairs(more, 5))
    other.set_weights(optimizer.get_weights())
    for v, w in zip(own, more):
        w.assign(v)
    for each, its in ((optimizer, own), (twin, copies), (other, more)):
        each.apply_gradients(pairs(its, 1))
    assert digest(optimizer, own) == digest(twin, copies) == digest(other, more)


@pytest.mark.parametrize("make", [Adafactor, Muon])
def test_a_run_goes_on_with_another_number_of_replicas(make, tmp_path):
    def training(steps, save):
        own, optimizer = variables(), make(0.05, gradient_aggregator="mean")
        mine = {"step": 0}
        manager = CheckpointManager(tmp_path, variables=own, optimizer=optimizer, mine=mine)
        if not save:
            manager.restore()
        while mine["step"] < steps:
            optimizer.apply_gradients(pairs(own, mine["step"]))
            mine["step"] += 1
            if mine["step"] == save:
                manager.save()
        manager.wait()
        return digest(optimizer, own)

    (expected,) = on_replicas(1, lambda: training(4, 2))
    assert on_replicas(4, lambda: training(4, 0)) == [expected] * 4


# -- kinds of gradients and numbers
@pytest.mark.parametrize("make", [Adafactor, Muon])
def test_a_sparse_gradient_is_a_dense_one_with_zeros(make):
    results = []
    for dense in (False, True):
        own, optimizer = variables(), make(0.05)
        for step in range(3):
            rows = np.random.default_rng(step).normal(size=(3, 4)).astype("f4")
            gradient = IndexedSlices(rows, np.array([4, 1, 4]), (5, 4))
            optimizer.apply_gradients([(gradient.to_dense() if dense else gradient, own[1])])
        results.append(digest(optimizer, own))
    assert results[0] == results[1]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("make", [Adafactor, Muon])
def test_narrow_numbers_are_computed_in_float32_and_rounded_once(make, dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    wide = Variable(np.random.default_rng(6).normal(size=(4, 6)).astype("f2").astype("f4"), name="w")
    narrow = Variable(wide, dtype=dtype, name="w")
    wide.assign(narrow.numpy().astype("f4"))
    gradient = np.random.default_rng(7).normal(size=(4, 6)).astype(narrow.dtype)
    before = narrow.numpy()
    make(0.25).apply_gradients([(gradient, narrow)])
    make(0.25).apply_gradients([(gradient.astype("f4"), wide)])
    np.testing.assert_array_equal(narrow.numpy(), wide.numpy().astype(narrow.dtype))
    assert (narrow.numpy() != before).any()


def test_zeros_move_nothing_and_numbers_stay_finite():
    for dtype in ("f2", "f4"):
        own, optimizer = variables(dtype), Adafactor(0.1)
        before = [v.numpy() for v in own]
        optimizer.apply_gradients([(np.zeros(v.shape, dtype), v) for v in own])
        for v, b in zip(own, before):
            np.testing.assert_array_equal(v.numpy(), b)
        optimizer.apply_gradients([(np.full(v.shape, 1e-4, dtype), v) for v in own])
        assert all(np.isfinite(v.numpy()).all() for v in own)


# -- errors
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Adafactor(beta_2_decay=0.5), "beta_2_decay must be <= 0"),
        (lambda: Adafactor(clip_threshold=0), "clip_threshold must be > 0"),
        (lambda: Adafactor(epsilon_1=-1), "epsilon_1 must be >= 0"),
        (lambda: Muon(momentum=1.5), "momentum must be between"),
        (lambda: Muon(ns_steps=2.5), "ns_steps must be a count"),
        (lambda: Muon(exclude_layers=["("]), "exclude_layers holds regular expressions"),
        (lambda: Muon(weight_decay=-1), "weight_decay"),
    ],
)
def test_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_complex_numbers_are_refused_before_anything_is_made():
    w, optimizer = Variable(np.ones((2, 2), np.complex64), name="w"), Adafactor()
    with pytest.raises(TypeError, match=r"'w.*complex64"):
        optimizer.apply_gradients([(np.ones((2, 2), np.complex64), w)])
    assert optimizer.get_slot_names() == []
    assert int(optimizer.iterations) == 0
