"""Plans are found by variables and their order, and end with them."""

import gc
import weakref

import numpy as np
import pytest

import distopt as tf
from distopt.engine.plan import PlanCache
from distopt.engine.step import StepEngine
from distopt.errors import ReplicaFailed
from distopt.optimizers import sgd


class Engine:
    """Stands for the engine of a replica."""


def test_a_plan_is_found_by_the_replica_the_variables_and_their_order():
    plans, one, a, b = PlanCache(), Engine(), tf.Variable([1.0]), tf.Variable([2.0])
    assert plans.find(one, [a, b]) is plans.find(one, (a, b))
    assert plans.find(one, [a, b]) is not plans.find(one, [b, a])
    assert plans.find(one, [a, b]) is not plans.find(Engine(), [a, b])
    assert plans.find(one, [a, b]) is not plans.find(None, [a, b])
    assert plans.find(one, [a, b]).distinct
    assert not plans.find(one, [a, a]).distinct


def test_a_plan_ends_with_the_engine():
    plans, one, v = PlanCache(), Engine(), tf.Variable([1.0])
    plan = weakref.ref(plans.find(one, [v]))
    assert plan() is not None
    del one
    gc.collect()
    assert plan() is None


def test_a_plan_ends_with_its_variables():
    """At once: the collector does not know how much memory it could free."""
    plans, one, v = PlanCache(), Engine(), tf.Variable([1.0])
    plan = weakref.ref(plans.find(one, [v]))
    plan().set_rules([v], (sgd.PLAIN,), ((),))
    sparse = weakref.ref(plan().with_sparse([v], (0,)))
    assert sparse() is plan().with_sparse([v], (0,))
    assert plan() is sparse().with_sparse([v], ())
    gc.disable()
    try:
        del v
        assert plan() is None
        assert sparse() is None
    finally:
        gc.enable()


def test_a_cache_holds_so_many_plans_and_no_more():
    plans, one, variables = PlanCache(), Engine(), [tf.Variable([float(i)]) for i in range(100)]
    made = [weakref.ref(plans.find(one, variables[:1])), weakref.ref(plans.find(one, variables[1:2]))]
    for i in range(2, 100):
        made.append(weakref.ref(plans.find(one, variables[i : i + 1])))
        plans.find(one, variables[1:2])  # in use, so it stays
    gc.collect()
    assert made[0]() is None
    assert made[1]() is not None
    assert sum(plan() is not None for plan in made) == 32


def test_an_update_follows_variables_that_have_moved():
    """A plan that was made before knows where they lay."""
    v = tf.Variable(np.zeros(4, np.float32))
    optimizer = tf.optimizers.SGD(1.0)

    def step():
        optimizer.apply_gradients([(np.ones(4, np.float32), v)])

    step()
    tf.distribute.VirtualStrategy(2).run(step)  # into memory that both replicas see
    step()
    assert v.numpy().tolist() == [-4.0] * 4


def test_memory_of_a_strategy_is_given_back_when_it_is_gone():
    v = tf.Variable(np.zeros(4, np.float32))
    optimizer, seen = tf.optimizers.SGD(1.0), []

    def step():
        optimizer.apply_gradients([(np.ones(4, np.float32), v)])
        place = StepEngine.of(tf.distribute.get_replica_context()).parameters.of(v)
        assert place is not None
        seen.append(weakref.ref(place.base))

    for _ in range(3):
        tf.distribute.VirtualStrategy(2).run(step)
    optimizer.apply_gradients([(np.ones(4, np.float32), v)])
    gc.collect()
    assert v.numpy().tolist() == [-7.0] * 4
    assert [memory() is None for memory in seen] == [True] * 6


def test_a_plan_that_one_replica_only_makes_anew_is_no_reason_to_wait_for_the_others():
    """Refused steps on other variables push plans out on that replica alone."""
    variables = [tf.Variable(np.zeros(4, np.float32)) for _ in range(2)]
    others = [[tf.Variable([0.0]) for _ in range(40)] for _ in range(2)]

    def program():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        optimizer = tf.optimizers.SGD(1.0, clipnorm=1.0)
        for v in variables:
            optimizer.apply_gradients([(np.ones(4, np.float32), v)])
        for other in others[replica]:
            pair = (np.ones(1, np.float32), other) if replica == 0 else ("no gradient", other)
            with pytest.raises((ReplicaFailed, TypeError)):
                optimizer.apply_gradients([pair])
        for v in variables:
            optimizer.apply_gradients([(np.ones(4, np.float32), v)])

    tf.distribute.VirtualStrategy(2).run(program)
    assert [v.numpy().tolist() for v in variables] == [[-1.0] * 4] * 2
