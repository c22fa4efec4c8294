"""LocalSGD and DiLoCo against NumPy written from the papers: 2 pretended nodes of 2 replicas."""

from functools import partial

import numpy as np
import pytest

import distopt as tf
from distopt.optimizers import SGD, DiLoCo, LocalSGD
from tests.replicated import on_replicas, rank

NODES, REPLICAS = 2, 4


@pytest.fixture(autouse=True)
def nodes(monkeypatch):
    monkeypatch.setenv("DISTOPT_NODES", str(NODES))


def gradient(step, replica, w):
    """Of a quadratic function of the replica's own, with its minimum elsewhere in each step."""
    target = np.random.default_rng(100 * step + replica).normal(size=w.shape)
    return (w - target).astype(w.dtype)


def train(make, steps, dtype="float64", value=None):
    """The weights after each step."""
    start = np.arange(12.0).reshape(3, 4) + rank() if value is None else value
    w, optimizer = tf.Variable(start, name="w", dtype=dtype), make()
    after = []
    for step in range(steps):
        optimizer.apply_gradients([(gradient(step, rank(), w.numpy()), w)])
        after.append(w.numpy())
    return after


def inner(momentum=0.9):
    return SGD(0.1, momentum=momentum, gradient_aggregator="mean")


class Momentum:
    """Keras' SGD with momentum, float64."""

    def __init__(self, rate, momentum, nesterov=False):
        self.rate, self.momentum = map(float, np.float32([rate, momentum]))  # hyperparameters are float32
        self.nesterov, self.m = nesterov, 0.0

    def step(self, w, g):
        self.m = self.momentum * self.m - self.rate * g
        return w + (self.momentum * self.m - self.rate * g if self.nesterov else self.m)


def reference(steps, every, outer=None):
    """What each node's weights are after each step."""
    start = np.arange(12.0).reshape(3, 4)
    w, anchor = [start, start], start
    rules = [Momentum(0.1, 0.9) for _ in range(NODES)]
    after = []
    for step in range(steps):
        for node in range(NODES):
            members = range(2 * node, 2 * node + 2)
            # The first gradients are taken before replica 0's values are everyone's.
            mean = sum(gradient(step, r, w[node] + r * (step == 0)) for r in members) / 2
            w[node] = rules[node].step(w[node], mean)
        if (step + 1) % every == 0:
            if outer is None:
                w = [sum(w) / NODES] * NODES
            else:
                anchor = outer.step(anchor, sum(anchor - one for one in w) / NODES)
                w = [anchor] * NODES
        after.append(list(w))
    return after


@pytest.mark.parametrize(
    ("make", "outer"),
    [
        (lambda: LocalSGD(inner(), every=3), None),
        (lambda: DiLoCo(inner(), every=3), Momentum(0.7, 0.9, nesterov=True)),
    ],
    ids=["LocalSGD", "DiLoCo"],
)
def test_weights_are_those_of_the_paper(make, outer):
    found, expected = on_replicas(REPLICAS, partial(train, make, 8)), reference(8, 3, outer)
    for step in range(8):
        for replica in range(REPLICAS):
            np.testing.assert_allclose(found[replica][step], expected[step][replica // 2], rtol=1e-13)
        apart = not np.array_equal(found[0][step], found[2][step])
        assert apart == ((step + 1) % 3 != 0)


def test_a_round_of_one_step_is_the_synchronous_run():
    plain = on_replicas(REPLICAS, partial(train, lambda: inner(0.0), 5))
    local = on_replicas(REPLICAS, partial(train, lambda: LocalSGD(inner(0.0), every=1), 5))
    np.testing.assert_allclose(local[3], plain[0], rtol=1e-14)


def test_on_one_node_local_sgd_is_its_inner_optimizer(monkeypatch):
    monkeypatch.setenv("DISTOPT_NODES", "0")
    plain = on_replicas(2, partial(train, inner, 5, "float32"))
    local = on_replicas(2, partial(train, lambda: LocalSGD(inner(), every=2), 5, "float32"))
    assert np.array_equal(local[1], plain[0])


def test_one_replica_alone_follows_the_outer_optimizer():
    found = train(lambda: DiLoCo(inner(), every=2), 4, value=np.arange(12.0).reshape(3, 4))
    w = anchor = np.arange(12.0).reshape(3, 4)
    own, outer = Momentum(0.1, 0.9), Momentum(0.7, 0.9, nesterov=True)
    for step in range(4):
        w = own.step(w, gradient(step, 0, w))
        if step % 2:
            w = anchor = outer.step(anchor, anchor - w)
    np.testing.assert_allclose(found[-1], w, rtol=1e-13)


@pytest.mark.parametrize(
    ("outer", "gradient"),
    [(lambda: None, 1.0), (lambda: SGD(0.7, momentum=0.9, nesterov=True), 1 + 2**-10)],
    ids=["default", "given"],
)
def test_by_default_differences_travel_as_bfloat16(outer, gradient):
    """bfloat16 has no number between 1 and 1 + 2^-7."""

    def program():
        w = tf.Variable(np.zeros((3, 4), np.float32), name="w")
        optimizer = DiLoCo(SGD(1.0, gradient_aggregator="mean"), outer(), every=1)
        optimizer.apply_gradients([(np.full((3, 4), 1 + 2**-10, np.float32), w)])
        return w.numpy()

    for w in on_replicas(REPLICAS, program):
        np.testing.assert_allclose(w, -0.7 * 1.9 * gradient, rtol=1e-6)  # Nesterov's first step
