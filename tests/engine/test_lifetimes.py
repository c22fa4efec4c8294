"""The engine keeps no variable alive: a model that is dropped gives its memory back."""

import gc
import weakref

import numpy as np
import pytest

import distopt as tf
from distopt.collectives import collective_check
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.engine.step import StepEngine


@pytest.mark.parametrize("replicas", [1, 2])
def test_dropped_models_are_gone(replicas):
    def program():
        engine = StepEngine.of(get_replica_context())
        known, refs = len(engine.parameters._regions), []
        for _ in range(3):
            v = tf.Variable(np.zeros(1000, np.float32))
            opt = tf.optimizers.Adam()
            for _ in range(2):
                opt.apply_gradients([(np.ones(1000, np.float32), v)])
            refs += [weakref.ref(x) for x in (v, opt, opt.get_slot(v, "m"))]
            del v, opt
        gc.collect()
        return [r for r in refs if r() is not None] == [] and len(engine.parameters._regions) == known

    assert VirtualStrategy(replicas).run(program) is True


def test_variables_that_are_each_replicas_own_leave_no_entry(monkeypatch):
    monkeypatch.setattr(collective_check, "_KEPT", 20)

    def program():
        context = get_replica_context()
        parameters = StepEngine.of(context).parameters
        for i in range(30):
            v = tf.Variable(np.zeros(10, np.float32), name=f"v{i}")
            opt = tf.optimizers.SGD(0.1, name=f"sgd{i}")
            opt.apply_gradients([(np.ones(10, np.float32), v)], experimental_aggregate_gradients=False)
            opt.apply_gradients([(np.ones(10, np.float32), v)])
            del v, opt
        gc.collect()
        kept = context.collective_check
        return [len(parameters._regions), len(parameters._released)], max(
            len(kept._kinds), len(kept._places)
        ) <= 20

    assert VirtualStrategy(2).run(program) == ([0, 0], True)
