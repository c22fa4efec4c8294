"""Where code stands, and what it may do there: the table of contexts and its errors."""

import numpy as np
import pytest

from distopt import Variable, distribute
from distopt.distribute import (
    VirtualStrategy,
    get_replica_context,
    get_strategy,
    has_strategy,
    in_cross_replica_context,
)
from distopt.optimizers import SGD


def here():
    context = get_replica_context()
    where = None if context is None else (int(context.replica_id_in_sync_group), context.num_replicas_in_sync)
    return where, in_cross_replica_context(), get_strategy(), has_strategy()


@pytest.fixture
def default():
    return get_strategy()


@pytest.fixture
def strategy():
    return VirtualStrategy(2)


def test_nothing_entered(default):
    assert here() == ((0, 1), False, default, False)
    assert get_strategy() is default
    assert get_replica_context() is get_replica_context()
    assert default.num_replicas_in_sync == 1


def test_default_scope_stays_in_replica_context(default):
    with default.scope() as entered:
        assert entered is default
        assert here() == ((0, 1), False, default, False)
    assert default.run(here) == ((0, 1), False, default, False)


def test_default_merge_call(default):
    assert get_replica_context().merge_call(lambda s: (s, here())) == (default, (None, True, default, False))


def test_scope(strategy, default):
    with strategy.scope() as entered:
        assert entered is strategy
        assert here() == (None, True, strategy, True)
        with strategy.scope():
            assert here() == (None, True, strategy, True)
        assert here() == (None, True, strategy, True)
    assert here() == ((0, 1), False, default, False)


def test_run(strategy, default):
    results = strategy.run(lambda: [here()])[0]
    assert results[0][0].values == (0, 1)
    assert results[0][1] == 2
    assert results[1:] == (False, strategy, True)
    assert here() == ((0, 1), False, default, False)


def test_run_inside_scope(strategy):
    with strategy.scope():
        assert strategy.run(here)[1:] == (False, strategy, True)
        assert here() == (None, True, strategy, True)


def test_merge_call(strategy):
    where = strategy.run(lambda: get_replica_context().merge_call(lambda s: (s is strategy, here())))
    assert where == (True, (None, True, strategy, True))


def test_after_an_exception_all_is_as_before(strategy, default):
    def fail():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), strategy.scope():
        strategy.run(fail)
    assert here() == ((0, 1), False, default, False)
    assert strategy.run(here)[1:] == (False, strategy, True)


def test_strategies_are_not_mixed(strategy, default):
    with strategy.scope():
        with pytest.raises(RuntimeError, match="Mixing different"), VirtualStrategy(2).scope():
            pass
        with pytest.raises(RuntimeError, match="Mixing different"), default.scope():
            pass
        assert here()[2] is strategy


@pytest.mark.parametrize("call", ["scope", "run", "reduce", "gather"])
def test_calls_for_all_replicas_are_refused_inside_run(strategy, call):
    calls = {
        "scope": lambda: strategy.scope().__enter__(),
        "run": lambda: strategy.run(lambda: 1),
        "reduce": lambda: strategy.reduce("sum", Variable(1.0), axis=None),
        "gather": lambda: strategy.gather(np.ones(2), axis=0),
    }
    with pytest.raises(
        RuntimeError, match=r"cross-replica context, use\s+get_replica_context\(\).merge_call"
    ):
        strategy.run(calls[call])


@pytest.mark.parametrize("step", ["apply", "minimize"])
@pytest.mark.parametrize("place", ["scope", "merge_call", "default merge_call"])
def test_a_step_is_refused_in_cross_replica_context(strategy, place, step):
    v, optimizer = Variable([1.0, 2.0]), SGD(1.0)

    def act(*_):
        if step == "apply":
            optimizer.apply_gradients([(np.ones(2, "f4"), v)])
        else:
            optimizer.minimize(lambda: v * v, [v])

    def inside():
        if place == "scope":
            with strategy.scope():
                act()
        elif place == "merge_call":
            strategy.run(lambda: get_replica_context().merge_call(act))
        else:
            get_replica_context().merge_call(act)

    with pytest.raises(RuntimeError, match=r"(?s)cross-replica context.*Strategy\.run"):
        inside()
    assert v.numpy().tolist() == [1.0, 2.0]
    assert int(optimizer.iterations) == 0


def test_an_empty_step_and_one_without_gradients_do_not_get_that_far(strategy):
    v, optimizer = Variable([1.0]), SGD(1.0)
    with strategy.scope():
        assert optimizer.apply_gradients([]) is None
        with pytest.raises(ValueError, match="No gradients provided for any variable"):
            optimizer.apply_gradients([(None, v)])


def test_a_strategy_has_replicas():
    with pytest.raises(ValueError, match="at least 1 and at most 16384; got 0"):
        VirtualStrategy(0)


def test_public_names():
    assert {"MPIStrategy", "PerReplica", "ReduceOp", "ReplicaContext", "Strategy"} <= set(distribute.__all__)


@pytest.mark.parametrize(
    "call",
    [
        lambda context: context.all_reduce("sum", 1.0),
        lambda context: context.all_gather(np.zeros(1), axis=0),
        lambda context: context.broadcast(1.0),
        lambda context: context.merge_call(lambda strategy: None),
        lambda context: context.node.all_reduce("sum", 1.0),
        lambda context: context.nodes.all_reduce("sum", 1.0),
    ],
)
def test_the_context_of_another_replica_is_refused(call):
    """Such as one that a module keeps which the replicas share."""
    kept = []

    def program():
        context = get_replica_context()
        context.all_reduce("sum", 1.0)
        if context.replica_id_in_sync_group == 0:
            kept.append(context)
        context.all_reduce("sum", 1.0)
        call(kept[0])

    with pytest.raises(
        RuntimeError, match=r"replica 1 uses the context of replica 0.*call get_replica_context"
    ):
        VirtualStrategy(2).run(program)
