"""LocalSGD and DiLoCo: what is wrong is said, where, and at once."""

import logging

import numpy as np
import pytest

import distopt as tf
from distopt.core.tensor import as_array
from distopt.distribute import VirtualStrategy
from distopt.errors import ReplicaFailed, ReplicaMismatch
from distopt.optimizers import SGD, DiLoCo, LocalSGD, LossScaleOptimizer, deserialize, serialize
from tests.replicated import on_replicas, rank


@pytest.fixture
def nodes(monkeypatch):
    monkeypatch.setenv("DISTOPT_NODES", "2")
    return monkeypatch


def mean(rate=0.5, **kwargs):
    return SGD(rate, gradient_aggregator="mean", **kwargs)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: LocalSGD(SGD(0.1), every=2), ValueError, "takes the sum .* gradient_aggregator='mean'"),
        (lambda: LocalSGD(mean(use_ema=True), every=2), ValueError, "averages of one node's weights"),
        (lambda: LocalSGD(mean(), every=0), ValueError, "every must be"),
        (lambda: LocalSGD("sgd", every=2), TypeError, "inner must be an optimizer"),
        (lambda: LocalSGD(LocalSGD(mean(), every=2), every=2), TypeError, "must not be a LocalSGD"),
        (lambda: LocalSGD(LossScaleOptimizer(mean()), every=2), TypeError, "must not be a LossScale"),
        (lambda: DiLoCo(mean(), outer="sgd"), TypeError, "outer must be an optimizer"),
        (lambda: DiLoCo(mean(), outer=LocalSGD(mean(), every=2)), TypeError, "outer must be an optimizer"),
        (lambda: DiLoCo(*[mean()] * 2), ValueError, "inner and outer must be two"),
        (lambda: DiLoCo(mean(), every=2, evry=3), TypeError, "every"),
    ],
)
def test_wrong_arguments(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_config_and_description(capsys, nodes):
    made = DiLoCo(mean(0.25, momentum=0.5), outer=SGD(0.5), every=7, name="d")
    twin = deserialize(serialize(made))
    assert twin.get_config() == made.get_config()
    assert twin.inner.momentum == 0.5
    assert (twin.every, twin.learning_rate) == (7, 0.25)
    texts = on_replicas(4, made.describe)
    assert "mean over 2 replicas -> SGD(learning_rate=0.25" in texts[0]
    assert (
        "on each of 2 nodes alone\nafter every 7 steps: weights before minus weights now -> mean" in texts[0]
    )


def test_clips_and_rates_are_the_inner_optimizers():
    made = LocalSGD(mean(), every=2)
    made.clipnorm, made.learning_rate = 3.0, 0.125
    assert (made.inner.clipnorm, float(made.inner.learning_rate)) == (3.0, 0.125)


def steps(before=lambda step, w: None, count=4, every=3, shape=2):
    w = tf.Variable(np.zeros(shape, np.float32), name="w")
    optimizer = LocalSGD(mean(on_nonfinite="skip"), every=every)
    for step in range(count):
        gradient = before(step, w)
        given = np.full(shape, 1.0 + rank(), np.float32) if gradient is None else gradient
        optimizer.apply_gradients([(given, w)])
    return w.numpy(), int(optimizer.iterations)


@pytest.mark.parametrize("step", [0, 1])
def test_a_gradient_of_another_shape_stops_all_of_the_node(step, nodes):
    def wrong(now, w):
        return np.ones(3, np.float32) if (now, rank()) == (step, 3) else None

    seen = {}

    def program():
        try:
            steps(wrong)
        except (ReplicaFailed, ReplicaMismatch, ValueError) as error:
            seen[rank()] = str(error)
            raise

    with pytest.raises(ValueError, match="shape"):
        on_replicas(4, program)
    assert "replica 3" in seen[2]


def test_other_variables_on_one_replica_of_a_node(nodes):
    def program():
        w, v = (tf.Variable(np.zeros(2, np.float32), name=name) for name in "wv")
        optimizer = LocalSGD(mean(), every=5)
        optimizer.apply_gradients([(np.ones(2, np.float32), w), (np.ones(2, np.float32), v)])
        pairs = [(np.ones(2, np.float32), v if rank() == 3 else w)]
        optimizer.apply_gradients(pairs)

    with pytest.raises(ReplicaMismatch, match=r"replica 2: .* on w:0 .*\n  replica 3: .* on v:0"):
        on_replicas(4, program)


def test_nodes_that_end_their_rounds_apart(nodes):
    def program():
        w = tf.Variable(np.zeros(2, np.float32), name="w")
        optimizer = LocalSGD(mean(), every=3)
        for _ in range(3 if rank() < 2 else 2):
            optimizer.apply_gradients([(np.ones(2, np.float32), w)])
        optimizer.exchange()

    with pytest.raises(ReplicaMismatch, match=r"after 3 steps.*\n.*after 2 steps"):
        on_replicas(4, program)


def test_one_node_leaves_out_a_step_and_the_other_does_not(nodes, caplog):
    def nan(step, w):
        return np.full(2, np.nan, np.float32) if (step, rank()) == (1, 3) else None

    with caplog.at_level(logging.WARNING):
        found = on_replicas(4, lambda: steps(nan, count=3))
    assert "replica 3: the gradient of 'w:0' is nan" in caplog.text
    assert [count for _, count in found] == [3, 3, 2, 2]
    # Means of gradients 1.5 and 3.5, rate 0.5.
    assert all(np.array_equal(w, np.full(2, -(3 * 1.5 + 2 * 3.5) * 0.5 / 2)) for w, _ in found)


def test_the_audit_compares_within_a_node(nodes):
    nodes.setenv("DISTOPT_MEMORY", "private")
    nodes.setenv("DISTOPT_AUDIT_EVERY", "1")
    first = on_replicas(4, lambda: steps(count=2))
    assert not np.array_equal(first[0][0], first[2][0])  # nodes differ, which it lets pass

    def behind(step, w):
        if (step, rank()) == (1, 3):
            as_array(w)[1] += 1

    with pytest.raises(ReplicaMismatch, match="'w:0' on replica 3 differs from that on replica 2"):
        on_replicas(4, lambda: steps(behind))


def test_an_exchange_at_will_ends_the_round(nodes):
    def program():
        w = tf.Variable(np.zeros(2, np.float32), name="w")
        optimizer = DiLoCo(mean(), outer=SGD(1.0), every=5)
        optimizer.exchange()  # before any step
        optimizer.apply_gradients([(np.full(2, 1.0 + rank(), np.float32), w)])
        optimizer.exchange()
        optimizer.exchange()  # nothing to do
        return w.numpy()

    found = on_replicas(4, program)
    assert all(np.array_equal(w, np.full(2, -0.5 * 2.5)) for w in found)


def test_nodes_need_optimizers_and_variables_of_their_own(nodes):
    strategy = VirtualStrategy(4)
    with strategy.scope():
        w, optimizer = tf.Variable(np.zeros(2, np.float32)), LocalSGD(mean(), every=2)
    with pytest.raises(ValueError, match="replicas of different nodes share optimizer"):
        strategy.run(lambda: optimizer.apply_gradients([(np.ones(2, np.float32), w)]))


def test_gradients_aggregated_before_are_refused():
    w = tf.Variable(np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="averages gradients over each node itself"):
        LocalSGD(mean(), every=2).apply_gradients([(np.ones(2, np.float32), w)], None, False)
