"""PowerSGD, TopK and SignSGD on pretended nodes, against NumPy references written from the papers."""

import numpy as np
import pytest
from replicated import on_replicas, rank

import distopt as tf
from distopt import aggregators
from distopt.aggregators.sparse_results import SparseResults
from distopt.distribute import get_replica_context
from distopt.testing import check_aggregator

SHAPES = [(40, 30), (64, 20), (7,), (3,)]
STEPS = 12


@pytest.fixture(autouse=True)
def two_nodes(monkeypatch):
    monkeypatch.setenv("DISTOPT_NODES", "2")


def gradients(step, replica):
    random = np.random.default_rng([step, replica])
    # Neighbouring steps have something in common, which a warm start can use.
    return [np.float32(random.normal(size=s) + 3 * np.sin(np.arange(np.prod(s)).reshape(s))) for s in SHAPES]


def totals(aggregator, replicas=4, steps=STEPS, given=gradients, dtype="f4"):
    """What each step of plain SGD at rate 1 has applied, and the aggregator's weights after it."""

    def program():
        context = get_replica_context()
        variables = [tf.Variable(np.zeros(s, dtype), name=f"v{i}") for i, s in enumerate(SHAPES)]
        own = aggregator()
        found = []
        for step in range(steps):
            pairs = [(g.astype(dtype), v) for g, v in zip(given(step, rank()), variables, strict=True)]
            own.build(variables)
            result = [np.array(g) for g, _ in own(pairs)]
            own.finish_step()
            residuals = [np.asarray(context.all_reduce("sum", w)) for w in own.weights[:2]]
            found.append((result, residuals))
        return found

    results = on_replicas(replicas, program)
    for other in results[1:]:
        for (a, _), (b, _) in zip(other, results[0], strict=True):
            assert [x.tobytes() for x in a] == [x.tobytes() for x in b]
    return results[0]


def node_sums(step, given=gradients):
    """The nodes' parts of the mean in float64: two nodes of two replicas."""
    each = [[g.astype("f8") for g in given(step, r)] for r in range(4)]
    return [[(a + b) / 4 for a, b in zip(each[n], each[n + 1], strict=True)] for n in (0, 2)]


def gram_schmidt(p):
    q = np.zeros_like(p)
    for k in range(p.shape[1]):
        column = p[:, k] - q[:, :k] @ (q[:, :k].T @ p[:, k])
        q[:, k] = column / np.linalg.norm(column)
    return q


def test_power_sgd_is_that_of_the_paper():
    made = totals(lambda: aggregators.PowerSGD(rank=2))

    def first_factors():
        own = aggregators.PowerSGD(rank=2)
        own.build([tf.Variable(np.zeros(s, "f4")) for s in SHAPES])
        return [w.numpy().T.astype("f8") for w in own.weights[2:]]

    factors = on_replicas(1, first_factors)[0]
    errors = [[np.zeros(s) for s in SHAPES[:2]] for _ in range(2)]
    for step, (result, residuals) in enumerate(made):
        parts = node_sums(step)
        for k in range(2):
            deltas = [parts[n][k] + errors[n][k] for n in range(2)]
            basis = gram_schmidt(sum(delta @ factors[k] for delta in deltas))
            rights = [delta.T @ basis for delta in deltas]
            factors[k] = sum(rights)
            for n in range(2):
                errors[n][k] = deltas[n] - basis @ rights[n].T
            np.testing.assert_allclose(result[k], basis @ factors[k].T, rtol=0, atol=3e-5)
            np.testing.assert_allclose(residuals[k], errors[0][k] + errors[1][k], rtol=0, atol=3e-5)
        for k in (2, 3):  # vectors go as the mean does
            np.testing.assert_allclose(result[k], parts[0][k] + parts[1][k], rtol=3e-7, atol=1e-7)


def test_top_k_sends_the_largest_and_keeps_the_rest(monkeypatch):
    monkeypatch.setattr("distopt.aggregators.top_k._LEAST", 1000)
    made = totals(lambda: aggregators.TopK(0.03))
    errors = [[np.zeros(s, "f4") for s in SHAPES[:2]] for _ in range(2)]
    for step, (result, residuals) in enumerate(made):
        each = [gradients(step, r) for r in range(4)]
        for k in range(2):
            want = np.zeros(SHAPES[k], "f4")
            for n in range(2):
                delta = (each[2 * n][k] + each[2 * n + 1][k]) * np.float32(0.25) + errors[n][k]
                chosen = np.argsort(-np.abs(delta), axis=None, kind="stable")[: -(-3 * delta.size // 100)]
                sent = np.zeros_like(delta)
                sent.flat[chosen] = delta.flat[chosen]
                errors[n][k] = delta - sent
                want += sent
            np.testing.assert_array_equal(result[k], want)
            np.testing.assert_array_equal(residuals[k], errors[0][k] + errors[1][k])


def test_sparse_results_stay_while_somebody_holds_them():
    results, places = SparseResults(), np.array([1, 4], np.int32)
    made = [results.make(6, np.dtype("f4"), [(places + k, np.full(2, k + 1, "f4"))]) for k in range(2)]
    assert [m.tolist() for m in made] == [[0, 1, 0, 0, 1, 0], [0, 0, 2, 0, 0, 2]]
    with pytest.raises(ValueError, match="read-only"):
        made[0][3] = 7
    used = made.pop(0).ctypes.data
    made.append(
        results.make(6, np.dtype("f4"), [(places, np.full(2, 3, "f4")), (places - 1, np.ones(2, "f4"))])
    )
    assert made[1].ctypes.data == used
    assert [m.tolist() for m in made] == [[0, 0, 2, 0, 0, 2], [1, 3, 0, 1, 3, 0]]


@pytest.mark.parametrize("aggregator", [lambda: aggregators.PowerSGD(2), lambda: aggregators.TopK(0.02)])
def test_nothing_is_lost(aggregator, monkeypatch):
    """What was applied and what waits is what came in."""
    monkeypatch.setattr("distopt.aggregators.top_k._LEAST", 1000)
    made = totals(aggregator, dtype="f8")
    came = [np.zeros(s) for s in SHAPES[:2]]
    applied = [np.zeros(s) for s in SHAPES[:2]]
    for step, (result, residuals) in enumerate(made):
        for k in range(2):
            came[k] += sum(part[k] for part in node_sums(step))
            applied[k] += result[k]
            np.testing.assert_allclose(applied[k] + residuals[k], came[k], rtol=0, atol=1e-13)
            assert np.abs(residuals[k]).max() > 0.1


def test_signs_of_the_majority():
    def given(step, replica):
        random = np.random.default_rng([step, replica])
        return [np.float32(random.integers(-1, 2, size=s)) for s in SHAPES]

    for replicas, nodes in ((4, 2), (3, 3), (1, 1)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DISTOPT_NODES", str(nodes))
            made = totals(aggregators.SignSGD, replicas, steps=2, given=given)
        for step, (result, _) in enumerate(made):
            for k in range(len(SHAPES)):
                each = np.stack([given(step, r)[k] for r in range(replicas)])
                votes = np.sign(each.reshape(nodes, replicas // nodes, *SHAPES[k]).sum(axis=1)).sum(axis=0)
                np.testing.assert_array_equal(result[k], np.sign(votes))


CONFIGS = [aggregators.PowerSGD(2, min_compression=1), aggregators.TopK(0.1), aggregators.SignSGD()]


def test_averages_vote():
    averages = [[np.zeros(s) for s in SHAPES] for _ in range(2)]
    for step, (found, _) in enumerate(totals(lambda: aggregators.SignSGD(0.75), steps=4, dtype="f8")):
        for average, sums in zip(averages, node_sums(step), strict=True):
            for m, g in zip(average, sums, strict=True):
                m += 0.25 * (g - m)
        for one, other, result in zip(*averages, found, strict=True):
            np.testing.assert_array_equal(result, np.sign(np.sign(one) + np.sign(other)))


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("aggregator", CONFIGS, ids=["power_sgd", "top_k", "sign_sgd"])
def test_conforms(aggregator, nodes, monkeypatch):
    monkeypatch.setenv("DISTOPT_NODES", str(nodes))
    monkeypatch.setattr("distopt.aggregators.top_k._LEAST", 4)
    skip = ["identity"] if isinstance(aggregator, aggregators.SignSGD) else []
    if nodes > 1:
        skip.append("state")  # it shares variables, which cannot be in two nodes' memories; see test_restarts
    assert check_aggregator(aggregator, skip=skip).passed


def test_other_gradients_go_exactly():
    """float16, vectors and rows are the mean's, to the bit, whatever is compressed beside them."""

    def program(aggregator):
        table, matrix = tf.Variable(np.zeros((9, 2), "f4")), tf.Variable(np.zeros((40, 30), "f4"))
        half, vector = tf.Variable(np.zeros((40, 30), "f2")), tf.Variable(np.zeros(50, "f8"))
        random = np.random.default_rng(rank())
        rows = tf.IndexedSlices(np.float32(random.normal(size=(2, 2))), np.array([rank(), 8]), (9, 2))
        pairs = [(random.normal(size=v.shape).astype(v.dtype), v) for v in (half, vector, matrix)]
        made = aggregators.get(aggregator)
        if isinstance(made, aggregators.Aggregator):
            made.build([table, half, vector, matrix])
        found = made([(rows, table), *pairs])
        return [found[0][0].to_dense((9, 2)), *(np.array(g) for g, _ in found[1:])]

    want = on_replicas(4, lambda: program("mean"))[0]
    for aggregator in ("power_sgd", "top_k"):
        found = on_replicas(4, lambda name=aggregator: program(name))[3]
        assert [a.tobytes() for a in found[:3]] == [a.tobytes() for a in want[:3]]
        assert not np.array_equal(found[3], want[3])


@pytest.mark.parametrize("aggregator", [lambda: aggregators.PowerSGD(2), lambda: aggregators.TopK(0.02)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_comes_out_and_is_not_kept(aggregator, bad, monkeypatch):
    monkeypatch.setattr("distopt.aggregators.top_k._LEAST", 1000)

    def given(step, replica):
        values = gradients(step, replica)
        if (step, replica) == (2, 3):
            values[0][5, 5] = bad
        return values

    made = totals(aggregator, steps=5, given=given)
    assert [bool(np.isfinite(result[0]).all()) for result, _ in made] == [True, True, False, True, True]
    assert all(np.isfinite(r).all() for _, residuals in made for r in residuals)


def test_nan_votes():
    def given(step, replica):
        return [np.full(s, np.nan if replica == 1 else 1.0, "f4") for s in SHAPES]

    assert all(np.isnan(g).all() for g in totals(aggregators.SignSGD, steps=1, given=given)[0][0])


def test_the_first_steps_are_exact():
    made = totals(lambda: aggregators.PowerSGD(2, start_after=2), steps=4)
    exact = [
        np.allclose(result[0], sum(p[0] for p in node_sums(k)), atol=1e-5)
        for k, (result, _) in enumerate(made)
    ]
    assert exact == [True, True, False, False]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: aggregators.PowerSGD(rank=0), "rank must be at least 1"),
        (lambda: aggregators.PowerSGD(min_compression=0.5), "min_compression must be at least 1"),
        (lambda: aggregators.PowerSGD(start_after=-1), "start_after must be at least 0"),
        (lambda: aggregators.TopK(0.0), "fraction must be above 0"),
        (lambda: aggregators.TopK(float("nan")), "fraction must be above 0"),
        (lambda: aggregators.SignSGD(1), "momentum must be at least 0 and below 1"),
    ],
)
def test_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()
