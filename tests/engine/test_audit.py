"""The audit: a difference on one replica is found and named."""

import numpy as np
import pytest

import distopt as tf
from distopt.core.tensor import as_array
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.errors import ReplicaMismatch


class ByHand(tf.optimizers.Optimizer):
    """An update that is Python code, whose hyperparameters no header compares."""

    def __init__(self, learning_rate=0.1, name="ByHand", **kwargs):
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", learning_rate)

    def _resource_apply_dense(self, grad, handle, apply_state=None):
        handle.assign_sub(grad * 0.1)

    def get_config(self):
        return {**super().get_config(), "learning_rate": self._serialize_hyperparameter("learning_rate")}


@pytest.fixture
def private(monkeypatch):
    """Each replica with copies of its own, compared at every step."""
    monkeypatch.setenv("DISTOPT_MEMORY", "private")
    monkeypatch.setenv("DISTOPT_AUDIT_EVERY", "1")


def number():
    return get_replica_context().replica_id_in_sync_group


class Warm(tf.optimizers.SGD):
    """SGD with a number that no update uses."""

    def __init__(self, warmth):
        super().__init__(0.5)
        self._set_hyper("warmth", warmth)


def test_a_hyperparameter_of_one_replica_is_found_at_the_first_step():
    def program():
        opt = Warm(0.2 if number() == 1 else 0.1)
        opt.apply_gradients([(np.ones(2, np.float32), tf.Variable(np.zeros(2, np.float32), name="v"))])

    with pytest.raises(ReplicaMismatch, match=r"hyperparameters of replica 1 .* warmth=0.2"):
        VirtualStrategy(2).run(program)


def test_an_element_that_parts_is_named(private):
    def program():
        v = tf.Variable(np.zeros((3, 4), np.float32), name="v")
        opt = tf.optimizers.SGD(0.5)
        opt.apply_gradients([(np.ones((3, 4), np.float32), v)])
        if number() == 2:
            as_array(v)[1, 3] += 1  # behind everybody's back
        opt.apply_gradients([(np.ones((3, 4), np.float32), v)])

    with pytest.raises(
        ReplicaMismatch, match=r"'v:0' on replica 2 differs from that on replica 0, .* element \(1, 3\)"
    ):
        VirtualStrategy(4).run(program)


def test_a_slot_that_parts_is_named(private):
    def program():
        v = tf.Variable(np.zeros(3, np.float32), name="v")
        opt = tf.optimizers.SGD(0.5, momentum=0.9)
        opt.apply_gradients([(np.ones(3, np.float32), v)])
        if number() == 1:
            as_array(opt.get_slot(v, "momentum"))[2] = 7
        opt.apply_gradients([(np.zeros(3, np.float32), tf.Variable(np.zeros(3, np.float32), name="w"))])

    with pytest.raises(ReplicaMismatch, match=r"momentum:0' on replica 1 differs"):
        VirtualStrategy(2).run(program)


def test_it_comes_every_so_many_steps(monkeypatch, private):
    monkeypatch.setenv("DISTOPT_AUDIT_EVERY", "3")
    reached = []

    def program():
        v = tf.Variable(np.zeros(3, np.float32), name="v")
        opt = tf.optimizers.SGD(0.5)
        opt.apply_gradients([(np.ones(3, np.float32), v)])  # audited: the first
        if number() == 1:
            as_array(v)[0] = 5
        for step in (2, 3, 4):
            opt.apply_gradients([(np.ones(3, np.float32), v)])
            reached.append((number(), step))

    with pytest.raises(ReplicaMismatch, match="audit of apply_gradients of SGD"):
        VirtualStrategy(2).run(program)
    assert max(step for _, step in reached) == 3


def test_it_can_be_switched_off(monkeypatch, private):
    monkeypatch.setenv("DISTOPT_AUDIT_EVERY", "0")

    def program():
        v = tf.Variable(np.full(2, number(), np.float32), name="v")
        opt = tf.optimizers.SGD(0.5)
        opt.apply_gradients([(np.zeros(2, np.float32), v)])
        as_array(v)[0] = number()
        opt.apply_gradients([(np.zeros(2, np.float32), v)])
        return float(v[0])

    assert VirtualStrategy(2).run(program).values == (0.0, 1.0)
