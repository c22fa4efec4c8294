"""The engine keeps no variable alive: a model that is dropped gives its memory back."""

import gc
import weakref

import numpy as np
import pytest

import distopt as tf
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.engine.step import StepEngine


@pytest.mark.parametrize("replicas", [1, 2])
def test_dropped_models_are_gone(replicas):
    def program():
        engine = StepEngine.of(get_replica_context())
        plans, refs = len(engine._plans), []
        for _ in range(3):
            v = tf.Variable(np.zeros(1000, np.float32))
            opt = tf.optimizers.Adam()
            for _ in range(2):
                opt.apply_gradients([(np.ones(1000, np.float32), v)])
            refs += [weakref.ref(x) for x in (v, opt, opt.get_slot(v, "m"))]
            del v, opt
        gc.collect()
        return [r for r in refs if r() is not None] == [] and len(engine._plans) == plans

    assert VirtualStrategy(replicas).run(program) is True
