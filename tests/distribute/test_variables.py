"""What synchronization and aggregation of variables do: made in a strategy's scope, used by its replicas."""

import numpy as np
import pytest

import distopt as tf
from distopt import VariableAggregation, VariableSynchronization
from distopt.distribute import VirtualStrategy, get_replica_context

N = 3


def number():
    return get_replica_context().replica_id_in_sync_group


def made(strategy, value=1.0, **kwargs):
    with strategy.scope():
        return tf.Variable(value, name="v", **kwargs)


@pytest.mark.parametrize(
    ("aggregation", "assigned", "added"),
    [
        (VariableAggregation.SUM, 6.0, 10.0 + 6.0),
        (VariableAggregation.MEAN, 2.0, 10.0 + 2.0),
        (VariableAggregation.ONLY_FIRST_REPLICA, 1.0, 10.0 + 1.0),
    ],
)
def test_what_replicas_assign_becomes_one_value(aggregation, assigned, added):
    strategy = VirtualStrategy(N)
    v, w = made(strategy, aggregation=aggregation), made(strategy, 10.0, aggregation=aggregation)

    def program():
        v.assign(number() + 1.0)
        w.assign_add(number() + 1.0)
        return float(v), float(w)

    assert strategy.run(program) == (assigned, added)
    assert (float(v), float(w)) == (assigned, added)


def test_one_variable_for_all_needs_an_aggregation():
    strategy = VirtualStrategy(N)
    v = made(strategy)
    with pytest.raises(ValueError, match="You must specify an aggregation method to update variable 'v:0'"):
        strategy.run(lambda: v.assign(2.0))
    assert float(v) == 1.0
    with strategy.scope():
        v.assign(2.0)  # between replicas it is one variable
    assert float(v) == 2.0


def test_a_variable_of_each_replica_is_assigned_alone():
    def program():
        v = tf.Variable(0.0)
        v.assign(number())
        return float(v)

    assert VirtualStrategy(N).run(program).values == (0.0, 1.0, 2.0)


@pytest.mark.parametrize(
    ("aggregation", "together"),
    [
        (VariableAggregation.SUM, 6.0),
        (VariableAggregation.MEAN, 2.0),
        (VariableAggregation.ONLY_FIRST_REPLICA, 1.0),
    ],
)
def test_on_read_keeps_a_value_a_replica_and_reads_them_together(aggregation, together):
    strategy = VirtualStrategy(N)
    v = made(strategy, 0.0, synchronization=VariableSynchronization.ON_READ, aggregation=aggregation)
    assert not v.trainable

    def program():
        v.assign_add(number() + 1.0)
        return float(v)

    assert strategy.run(program).values == (1.0, 2.0, 3.0)
    with strategy.scope():
        assert float(v.numpy()) == together


def test_on_read_between_replicas():
    strategy = VirtualStrategy(N)
    kind = {"synchronization": VariableSynchronization.ON_READ}
    total = made(strategy, 0.0, aggregation=VariableAggregation.SUM, **kind)
    plain = made(strategy, 0.0, **kind)
    strategy.run(lambda: [v.assign(1.0) for v in (total, plain)])
    with strategy.scope():
        total.assign(9.0)  # dealt out, so that the sum is what was assigned
        with pytest.raises(ValueError, match="aggregation NONE"):
            plain.numpy()
    assert strategy.run(lambda: float(total)) == 3.0


def test_same_under_one_replica():
    v = tf.Variable(1.0, aggregation=VariableAggregation.SUM)
    assert float(v.assign_add(2.0)) == 3.0
    r = tf.Variable(1.0, synchronization=VariableSynchronization.ON_READ, aggregation=VariableAggregation.SUM)
    assert float(r.assign_add(2.0)) == 3.0
    with pytest.raises(ValueError, match="ON_READ"):
        tf.Variable(1.0, trainable=True, synchronization=VariableSynchronization.ON_READ)


def test_an_optimizer_of_the_scope_counts_a_step_once():
    strategy = VirtualStrategy(N)
    v = made(strategy, np.zeros(2, np.float32))
    with strategy.scope():
        opt = tf.optimizers.SGD(1.0, momentum=0.5)

    def program():
        opt.apply_gradients([(np.full(2, number() + 1, np.float32), v)])
        opt.learning_rate = 0.5
        return int(opt.iterations)

    assert strategy.run(program) == 1
    np.testing.assert_array_equal(v.numpy(), [-6.0, -6.0])
    assert strategy.run(program) == 2
    # m = 0.5 * -6 - 0.5 * 6
    np.testing.assert_array_equal(v.numpy(), [-12.0, -12.0])
    np.testing.assert_array_equal(opt.get_slot(v, "momentum").numpy(), [-6.0, -6.0])
