"""State that is each replica's own: the aggregator of the documentation, trained, saved and restored."""

import numpy as np
import pytest
from pages import run_page
from replicated import on_replicas, rank

import distopt as tf
from distopt import aggregators
from distopt.checkpoint import CheckpointManager
from distopt.errors import ReplicaFailed
from distopt.optimizers import SGD, Adam


@pytest.fixture(scope="module")
def top_k():
    return run_page("docs/howto/aggregators-state.md")["TopK"]


def steps(optimizer, w, first, count):
    for step in range(first, first + count):
        gradient = np.random.default_rng([step, rank()]).normal(size=w.shape)
        optimizer.apply_gradients([(gradient, w)])


def training(top_k):
    w = tf.Variable(np.zeros(6), name="w")
    return w, Adam(0.1, gradient_aggregator=top_k(0.3))


@pytest.mark.parametrize("size", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("together", [False, True])
def test_a_checkpoint_holds_each_replicas_own(top_k, size, together, tmp_path):
    def uninterrupted():
        w, optimizer = training(top_k)
        steps(optimizer, w, 0, 6)
        return w.numpy(), optimizer.weights[-1].numpy()

    def interrupted(shared, count):
        w, optimizer = shared or training(top_k)
        manager = CheckpointManager(tmp_path, variables=[w], optimizer=optimizer)
        manager.restore()
        steps(optimizer, w, int(optimizer.iterations), count)
        manager.save()
        return w.numpy(), optimizer.weights[-1].numpy()

    want = on_replicas(size, uninterrupted)
    for count in (2, 4):
        shared = training(top_k) if together else None
        got = on_replicas(size, lambda count=count, shared=shared: interrupted(shared, count))
    for (w, rest), (other, other_rest) in zip(want, got, strict=True):
        assert np.array_equal(w, other)
        assert np.array_equal(rest, other_rest)
    assert len({rest.tobytes() for _, rest in got}) == size  # each has its own


def test_state_beside_an_optimizer_without_slots_is_restored_before_the_first_step(top_k, tmp_path):
    def program(folder, count):
        a, b = (tf.Variable(np.zeros(6), name=name) for name in "ab")
        optimizer = SGD(0.1, gradient_aggregator=top_k(0.3))
        manager = CheckpointManager(folder, variables=[a, b], optimizer=optimizer)
        manager.restore()
        for step in range(int(optimizer.iterations), count):
            gradients = np.random.default_rng([step, rank()]).normal(size=(2, 6))
            optimizer.apply_gradients(zip(gradients[::-1], [b, a], strict=True))  # not in the manager's order
        manager.save()
        return [v.numpy() for v in (a, b)]

    want = on_replicas(2, lambda: program(tmp_path / "whole", 5))
    on_replicas(2, lambda: program(tmp_path / "parts", 3))
    assert np.array_equal(on_replicas(2, lambda: program(tmp_path / "parts", 5)), want)


def test_another_number_of_replicas_keeps_the_sum_of_what_waits(top_k, tmp_path):
    def program(count):
        w, optimizer = training(top_k)
        manager = CheckpointManager(tmp_path, variables=[w], optimizer=optimizer)
        manager.restore()
        if count:
            steps(optimizer, w, 0, count)
        manager.save()
        return optimizer.weights[-1].numpy()

    before = on_replicas(4, lambda: program(3))
    after = on_replicas(2, lambda: program(0))
    assert np.allclose(np.sum(before, axis=0), np.sum(after, axis=0), rtol=1e-12)


def test_a_step_that_fails_on_one_replica_leaves_what_waits(top_k):
    def program():
        w = tf.Variable(np.zeros(6))

        def break_down(pairs):
            if rank() == 1 and int(optimizer.iterations) == 1:
                raise ArithmeticError("broken")
            return pairs

        optimizer = SGD(1.0, gradient_aggregator=top_k(0.3), gradient_transformers=[break_down])
        steps(optimizer, w, 0, 1)
        before = optimizer.get_weights()
        with pytest.raises((ArithmeticError, ReplicaFailed), match="broken"):
            steps(optimizer, w, 1, 1)
        return [np.array_equal(a, b) for a, b in zip(before, optimizer.get_weights(), strict=True)]

    assert on_replicas(2, program) == [[True, True]] * 2


def test_what_is_a_replicas_own_is_not_compared_but_the_rest_is(top_k):
    class Parted(top_k):
        """State that ought to be the same, and is not."""

        def build(self, variables):
            super().build(variables)
            self.common = tf.Variable(float(rank()), name="common", trainable=False)

        weights = property(lambda self: [*super().weights, self.common])

    def program(make):
        w = tf.Variable(np.zeros(6))
        steps(SGD(1.0, gradient_aggregator=make()), w, 0, 2)

    on_replicas(2, lambda: program(top_k))
    with pytest.raises(
        tf.errors.ReplicaMismatch, match="'common:0' on replica 1 differs from that on replica 0"
    ):
        on_replicas(2, lambda: program(Parted))


def test_finish_step_is_called_on_each_replica_only_for_what_is_its_own(top_k):
    calls = []

    class Noted(top_k):
        def finish_step(self):
            calls.append(rank())
            super().finish_step()

    class Alike(aggregators.Mean):
        def finish_step(self):
            calls.append("once")

    for aggregator, expected in ((Noted(), [0, 1, 2]), (Alike(), ["once"])):
        w, optimizer = tf.Variable(np.zeros(6)), SGD(1.0, gradient_aggregator=aggregator)
        calls.clear()
        on_replicas(3, lambda w=w, optimizer=optimizer: steps(optimizer, w, 0, 1))
        assert sorted(calls) == expected
