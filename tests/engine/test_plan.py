"""Plans are found by variables and their order, and end with them."""

import gc
import weakref

import numpy as np

import distopt as tf
from distopt.engine.plan import PlanCache


def test_a_plan_is_found_by_the_replica_the_variables_and_their_order():
    plans, a, b = PlanCache(), tf.Variable([1.0]), tf.Variable([2.0])
    assert plans.find(0, [a, b]) is plans.find(0, (a, b))
    assert plans.find(0, [a, b]) is not plans.find(0, [b, a])
    assert plans.find(0, [a, b]) is not plans.find(1, [a, b])
    assert plans.find(0, [a, b]).distinct
    assert not plans.find(0, [a, a]).distinct


def test_a_plan_ends_with_its_variables():
    plans, v = PlanCache(), tf.Variable([1.0])
    plan = weakref.ref(plans.find(0, [v]))
    assert plan() is not None
    del v
    gc.collect()
    assert plan() is None


def test_a_cache_holds_so_many_plans_and_no_more():
    plans, variables = PlanCache(), [tf.Variable([float(i)]) for i in range(100)]
    first = weakref.ref(plans.find(0, variables[:1]))
    for i in range(1, 100):
        plans.find(0, variables[i : i + 1])
        plans.find(0, variables[1:2])  # in use, so it stays
    gc.collect()
    assert first() is None
    assert len(plans._plans) <= 32


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
