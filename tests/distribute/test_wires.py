"""Gradients that travel between nodes in a wire format."""

import re

import jobs
import numpy as np
import pytest
import wires_of_steps as program
from replicated import on_replicas, rank

from distopt import IndexedSlices, Variable, aggregators, optimizers
from distopt.distribute import get_replica_context
from distopt.errors import ReplicaMismatch
from distopt.testing import check_aggregator

WIRES = ("bf16", "fp16", "int8")
#: The largest error of a value that is rounded, over the largest magnitude of its group.
ERRORS = {"bf16": 2.0**-8, "fp16": 2.0**-11, "int8": 1 / 127}


@pytest.fixture
def nodes(monkeypatch):
    def pretend(count):
        monkeypatch.setenv("DISTOPT_NODES", str(count))

    return pretend


@pytest.mark.parametrize(
    "wire", ["int8", *(pytest.param(w, marks=pytest.mark.slow) for w in ("bf16", "fp16"))]
)
def test_every_way_through_a_step_has_the_same_bits(nodes, wire):
    """On one node those of an exact mean; on two near them, on all replicas, both ways through a step."""
    exact = on_replicas(6, lambda: program.train("float32", program.sgd))[0]
    np.testing.assert_array_equal(on_replicas(6, lambda: program.train(wire, program.sgd))[0], exact)
    nodes(2)
    found = on_replicas(6, lambda: program.train(wire, program.sgd))
    staged = on_replicas(6, lambda: program.train(wire, program.staged))
    for other in (*found, *staged):
        np.testing.assert_array_equal(other, found[0])
    # Three steps at rate 0.1, in each two sums of three normal numbers, and their total, over six.
    most = 3 * 0.1 * (2 * 4.5 * 3**0.5 + 4.5 * 6**0.5) / 6 * ERRORS[wire]
    assert 0 < np.abs(found[0] - exact).max() < most


def test_a_mean_of_several_partial_sums_is_rounded_once(nodes):
    """Three replicas leave a node two partial sums, of which one needs more bits than bf16 has."""
    nodes(2)
    values = [1.0, 2.0**-8, 2.0**-8, 0.0, 0.0, 0.0]

    def reduced():
        return get_replica_context().all_reduce("sum", np.full(3, values[rank()], "f4"), wire="bf16").numpy()

    # Rounded by itself, the first of them would be 1, and so would the sum.
    assert on_replicas(6, reduced)[5].tolist() == [1 + 2.0**-7] * 3


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_so(nodes, bad):
    nodes(2)

    def reduced(wire):
        value = np.ones(9000, "f4")
        if rank() == 1:
            value[5000] = bad
        return get_replica_context().all_reduce("mean", value, wire=wire).numpy()

    for wire in WIRES:
        for found in on_replicas(2, lambda wire=wire: reduced(wire)):
            assert not np.isfinite(found[5000])
            assert np.isfinite(found[:4096]).all()  # other pieces have scales of their own


def test_int8_is_right_on_average(nodes):
    """Rounding up or down at random has the exact mean as its expected value, over steps and elements."""
    nodes(2)
    steps = 400

    def train():
        gradient = np.random.default_rng(rank()).normal(size=512).astype("f4")
        w = Variable(np.zeros(512))  # float64 would not be rounded
        v = Variable(np.zeros(512, "f4"))
        optimizer = optimizers.SGD(1.0, gradient_aggregator=aggregators.Mean(wire="int8"))
        for _ in range(steps):
            v.assign(np.zeros(512, "f4"))
            optimizer.apply_gradients([(gradient, v)])
            w.assign_sub(v)
        return w.numpy() / steps, gradient

    (found, first), (_, second) = on_replicas(2, train)
    level = max(np.abs(g).max() for g in (first, second, first + second)) / 127
    # Three roundings, each of a variance of a quarter of a level squared at most, over two.
    deviation = level * np.sqrt(3 / 4 / steps) / 2
    error = found - (first + second) / 2
    assert np.abs(error).max() < 5 * deviation
    assert np.abs(error.mean()) < 5 * deviation / np.sqrt(512)


def test_rounding_goes_on_after_a_restart(nodes):
    """Random numbers are a function of ``iterations``, which checkpoints hold."""
    nodes(2)

    def halves():
        kept = []
        for start in (None, 2):
            v = Variable(np.zeros(600, "f4"))
            optimizer = optimizers.SGD(1.0, gradient_aggregator=aggregators.Sum(wire="int8"))
            for step in range(start or 0, 4):
                if start is None and step == 2:
                    kept.append(v.numpy())
                elif step == start:
                    v.assign(kept[0])
                    optimizer.iterations.assign(2)
                gradient = np.random.default_rng([step, rank()]).normal(size=600).astype("f4")
                optimizer.apply_gradients([(gradient, v)])
            kept.append(v.numpy())
        return kept[1:]

    whole, restarted = on_replicas(2, halves)[0]
    np.testing.assert_array_equal(whole, restarted)


def test_other_gradients_travel_exactly(nodes):
    nodes(2)

    def aggregated(wire):
        generator = np.random.default_rng(rank())
        variables = [Variable(np.ones(5, kind), name=kind) for kind in ("f8", "f2", "c8")]
        table = Variable(np.ones((6, 2), "f4"))
        pairs = [(generator.normal(size=5).astype(v.dtype), v) for v in variables]
        pairs.append((IndexedSlices(generator.normal(size=(2, 2)).astype("f4"), [rank(), 5]), table))
        *dense, (rows, _) = aggregators.WeightedMean(2, wire=wire)(pairs)
        return [np.asarray(g).tobytes() for g in (*[g for g, _ in dense], rows.values, rows.indices)]

    assert on_replicas(4, lambda: aggregated("int8")) == on_replicas(4, lambda: aggregated("float32"))


def test_a_format_is_checked_told_and_kept(nodes):
    with pytest.raises(ValueError, match=r"one of 'float32', 'bf16', 'fp16', 'int8'; got 'fp8'"):
        aggregators.Sum(wire="fp8")
    with pytest.raises(ValueError, match="wire must be one of"):
        get_replica_context().all_reduce("sum", 1.0, wire=8)
    assert aggregators.Mean().get_config() == {} == aggregators.Sum(wire="float32").get_config()
    assert aggregators.WeightedMean(3, wire="bf16").get_config() == {"examples": 3, "wire": "bf16"}
    made = aggregators.get(aggregators.serialize(aggregators.Mean(wire="int8")))
    assert (made.wire, str(made)) == ("int8", "mean(wire='int8')")

    def described():
        optimizer = optimizers.SGD(gradient_aggregator=made)
        optimizer.apply_gradients([(np.ones(3, "f4"), Variable(np.ones(3, "f4")))])
        return optimizer.describe()

    assert "one node: no gradient travels as int8" in on_replicas(2, described)[0]
    nodes(2)
    text = on_replicas(2, described)[0]
    assert "between 2 nodes as int8: float32 gradients, each node's sum rounded once" in text
    assert "after the backward pass: int8 is made of them in the step" in text


def test_replicas_that_differ_in_the_format_are_told(nodes):
    nodes(2)

    def step(own):
        v = Variable(np.ones(3, "f4"))
        optimizer = optimizers.SGD(gradient_aggregator=aggregators.Mean(wire=own))
        optimizer.apply_gradients([(np.ones(3, "f4"), v)])

    with pytest.raises(ReplicaMismatch, match="mean by bf16") as error:
        on_replicas(2, lambda: step("float32" if rank() else "bf16"))
    assert "mean)" in str(error.value)


@pytest.mark.parametrize(
    "wire", ["int8", *(pytest.param(wire, marks=pytest.mark.slow) for wire in ("bf16", "fp16"))]
)
def test_they_are_aggregators_like_all_others(nodes, wire):
    check_aggregator(aggregators.Mean(wire=wire))
    nodes(2)
    check_aggregator(aggregators.Sum(wire=wire))


@pytest.mark.launches
@pytest.mark.parametrize(
    ("replicas", "words"),
    [
        pytest.param(4, lambda: jobs.mpi(2, *jobs.inprocess(2, program.__file__)), marks=pytest.mark.slow),
        pytest.param(8, lambda: jobs.mpi(8, program.__file__), marks=pytest.mark.slow),
        pytest.param(8, lambda: jobs.mpi(2, *jobs.inprocess(4, program.__file__)), marks=pytest.mark.slow),
        pytest.param(8, lambda: jobs.python(*jobs.inprocess(8, program.__file__)), marks=pytest.mark.slow),
    ],
)
def test_jobs_have_the_bits_of_one_process(nodes, replicas, words):
    nodes(2)
    expected = on_replicas(replicas, program.hashes)[0]
    done = jobs.run(words(), DISTOPT_NODES="2")
    assert done.code == 0, done.err
    found = re.findall(r"HASH (\d+) (.+): ([0-9a-f]{64})", done.out)
    assert len(found) == replicas * len(expected)
    assert all(value == expected[name] for _, name, value in found)


@pytest.mark.launches
@pytest.mark.slow
def test_disagreements_over_what_is_sent_ahead():
    """Exact steps send a block ahead of the header, these do not; after the error both go on."""
    done = jobs.run(jobs.mpi(2, program.__file__, "--disagree"), DISTOPT_NODES="2")
    assert done.code == 0, done.err
    assert done.out.count("after it: 0.0") == 2
    assert done.out.count("mean by bf16") == 4
