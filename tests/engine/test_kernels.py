"""Compiled rules: what they compute, that cuts do not matter, and how they are kept on disk."""

import os
import subprocess
import sys

import numpy as np
import pytest

from distopt.engine import kernels
from distopt.engine.rule import Rule, Sparse, where
from distopt.optimizers import adadelta, adagrad, adam, adamax, ftrl, nadam, rmsprop, sgd

RULES = [
    value
    for module in (sgd, rmsprop, adam, adamax, nadam, adagrad, adadelta, ftrl)
    for value in vars(module).values()
    if isinstance(value, Rule)
]


def name_of(value):
    return value.name if isinstance(value, Rule) else value


#: Those in float64 are slow but for two: each is compiled for itself.
double = [
    pytest.param(r, "f8", marks=[] if r in (adam.ADAM, ftrl.POWER) else pytest.mark.slow) for r in RULES
]
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)


def made_up(rule, size, dtype, seed=0):
    """``(w, g, slots, coefficients)`` with values in the range where rules live."""
    rng = np.random.default_rng(seed)
    w, g = rng.normal(size=(2, size)).astype(dtype)
    # Means of squares come first, means of the gradient after: a variance has to be positive.
    slots = tuple((rng.uniform(1, 2, size) / 4**k).astype(dtype) for k in range(len(rule.slots)))
    coefficients = tuple(np.dtype(dtype).type(x) for x in np.linspace(0.1, 0.7, len(rule.coefficients)))
    return w, g, slots, coefficients


def copies(w, slots):
    return w.copy(), tuple(s.copy() for s in slots)


def bits(w, slots):
    return [x.tobytes() for x in (w, *slots)]


def test_all_rules_are_here():
    assert len(RULES) == 15
    assert len({r.name for r in RULES}) == len(RULES)


@pytest.mark.parametrize(("rule", "dtype"), [*((rule, "f4") for rule in RULES), *double], ids=name_of)
def test_compiled_is_the_function(rule, dtype):
    w, g, slots, coefficients = made_up(rule, 1001, dtype)
    want = rule.function(w, g, *slots, *coefficients)
    g.flags.writeable = False
    kernels.dense(rule, w, g, slots, coefficients)
    for got, expected in zip((w, *slots), want, strict=True):
        if rule is ftrl.POWER:  # pow may differ in the last bit from NumPy's
            tolerance = 1e-5 if dtype == "f4" else 1e-13
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
        else:
            assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("rule", "dtype"), [*((rule, dtype) for rule in RULES for dtype in ("f2", "f4")), *double], ids=name_of
)
def test_cuts_do_not_matter(rule, dtype):
    w, g, slots, coefficients = made_up(rule, 70_000 if dtype == "f2" else 1001, dtype)
    cut_w, cut_slots = copies(w, slots)
    with np.errstate(all="ignore"):
        kernels.dense(rule, w, g, slots, coefficients)
        for part in (slice(0, 1), slice(1, 18), slice(18, 500), slice(500, None)):
            kernels.dense(rule, cut_w[part], g[part], tuple(s[part] for s in cut_slots), coefficients)
    assert bits(w, slots) == bits(cut_w, cut_slots)


@every_rule
@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_rows_are_dense_on_those_rows(rule, dtype):
    w, g, slots, coefficients = made_up(rule, 20 * 7, dtype)
    indices = np.array([1, 4, 5, 19])
    want_w, want_slots = copies(w, slots)
    kernels.dense(rule, want_w, g, want_slots, coefficients)
    rows_w, rows_slots = copies(w, slots)
    tables = [x.reshape(20, 7) for x in (rows_w, *rows_slots)]
    kernels.rows(rule, tables[0], g.reshape(20, 7)[indices], indices, tuple(tables[1:]), coefficients)
    others = np.setdiff1d(np.arange(20), indices)
    for got, want, before in zip(tables, (want_w, *want_slots), (w, *slots), strict=True):
        assert (got[indices] == want.reshape(20, 7)[indices]).all()
        assert (got[others] == before.reshape(20, 7)[others]).all()


@every_rule
@pytest.mark.parametrize("indices", [[], [0], [1, 4, 5, 19]])
@pytest.mark.parametrize("block", [1, 30, 1 << 16])
def test_sparse_is_dense_with_zeros_where_the_rule_says_so(rule, indices, block, monkeypatch):
    monkeypatch.setattr(kernels, "_BLOCK", block)
    w, g, slots, coefficients = made_up(rule, 20 * 7, "f4")
    indices = np.array(indices, np.int64)
    others = np.setdiff1d(np.arange(20), indices)
    g = g.reshape(20, 7)
    g[others] = 0
    want_w, want_slots = copies(w, slots)
    kernels.dense(rule, want_w, g.reshape(-1), want_slots, coefficients)
    got_w, got_slots = copies(w, slots)
    tables = [x.reshape(20, 7) for x in (got_w, *got_slots)]
    kernels.sparse(rule, tables[0], g[indices], indices, tuple(tables[1:]), coefficients)
    dense = [x.reshape(20, 7) for x in (want_w, *want_slots)]
    before = [x.reshape(20, 7) for x in (w, *slots)]
    for i, (got, want, was) in enumerate(zip(tables, dense, before, strict=True)):
        moves = rule.sparse is Sparse.ALL or (rule.sparse is Sparse.DECAY and i > 0)
        assert (got[indices] == want[indices]).all()
        assert (got[others] == (want if moves else was)[others]).all()


@every_rule
def test_ranges_of_rows_together_are_the_whole(rule):
    w, g, slots, coefficients = made_up(rule, 20 * 7, "f4")
    indices = np.array([0, 3, 4, 11, 19])
    values = g.reshape(20, 7)[indices]
    cut_w, cut_slots = copies(w, slots)
    whole = [x.reshape(20, 7) for x in (w, *slots)]
    parts = [x.reshape(20, 7) for x in (cut_w, *cut_slots)]
    kernels.sparse(rule, whole[0], values, indices, tuple(whole[1:]), coefficients)
    for low, high in ((0, 4), (4, 5), (5, 20)):
        first, last = np.searchsorted(indices, (low, high))
        kernels.sparse(
            rule,
            parts[0][low:high],
            values[first:last],
            indices[first:last] - low,
            tuple(p[low:high] for p in parts[1:]),
            coefficients,
        )
    assert bits(w, slots) == bits(cut_w, cut_slots)


def test_float16_rounds_after_each_operation():
    # In float32 the sum would be 1.0004 and its double 2.0009, which rounds to 2.002.
    rule = Rule("twice", _twice)
    w = np.ones(3, np.float16)
    kernels.dense(rule, w, np.full(3, 0.0004, np.float16), (), ())
    assert w.tolist() == [2.0] * 3


def _twice(w, g):
    return ((w + g) + (w + g),)


def _selected(w, g, zero):
    return (where(g > zero, w, g),)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_where(dtype):
    w, g = np.full(4, 7, dtype), np.array([1, -1, 0, np.nan], dtype)
    kernels.dense(Rule("selected", _selected), w, g, (), (np.dtype(dtype).type(0),))
    np.testing.assert_array_equal(w, np.array([7, -1, 0, np.nan], dtype))


def test_empty_arrays():
    w = np.zeros(0, "f4")
    kernels.dense(sgd.PLAIN, w, w, (), (np.float32(1),))
    table = np.zeros((0, 3), "f4")
    kernels.sparse(adam.ADAM, table, table, np.zeros(0, np.int64), (table, table), (np.float32(1),) * 4)
    assert w.size == table.size == 0


def test_coefficients_are_named_by_the_function():
    assert adam.ADAM.coefficients == ("alpha", "one_minus_beta_1", "one_minus_beta_2", "epsilon")


@pytest.mark.parametrize("place", ["CacheImpl._locator_classes", "IndexDataCacheFile.save"])
def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch, place):
    from numba.core import caching

    def refuse(*args):
        raise PermissionError("read-only file system")

    owner, name = place.split(".")
    monkeypatch.setattr(getattr(caching, owner), name, [] if "locator" in name else refuse)
    kernels._kernel.cache_clear()
    w = np.ones(3, "f4")
    kernels.dense(Rule(f"uncached {name}", _twice), w, np.ones(3, "f4"), (), ())
    assert w.tolist() == [4.0] * 3
    kernels._kernel.cache_clear()


PROGRAM = """
import numpy as np
from distopt.engine import kernels
from my_rule import RULE
w = np.ones(2, "f4")
kernels.dense(RULE, w, np.ones(2, "f4"), (), (np.float32(3),))
stats = kernels._kernel(RULE, w.dtype).stats
print(w[0], sum(stats.cache_hits.values()))
"""

MODULE = """
from distopt.engine.rule import Rule
def _update(w, g, a):
    return (w {op} a * g,)
RULE = Rule("mine", _update)
"""


@pytest.mark.slow
def test_kernels_are_kept_on_disk_and_follow_the_rules_source(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)

    def run(op):
        (tmp_path / "my_rule.py").write_text(MODULE.format(op=op))
        environ = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        command = [sys.executable, "program.py"]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert run("-") == ["-2.0", "0"]
    assert run("-") == ["-2.0", "1"]
    assert run("+") == ["4.0", "0"]
    # Numba writes an index without a lock: each kernel has one, so that nobody else changes it meanwhile.
    assert len(list(tmp_path.glob("cache/engine_*/loops.rows_template*.nbi"))) == 2
