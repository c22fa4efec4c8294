"""The engine keeps no variable alive: a model that is dropped gives its memory back."""

import gc
import os
import weakref
from pathlib import Path

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


def test_views_go_with_their_variables():
    def program():
        context = get_replica_context()
        engine = StepEngine.of(context)

        def mapped():
            gc.collect()
            context.comm.barrier()
            count = Path("/proc/self/maps").read_text().count("/memfd:distopt")
            context.comm.barrier()
            return count, len(os.listdir("/proc/self/fd"))

        def train():
            v = tf.Variable(np.zeros(50_000, np.float32))
            v.storage.copy_on_write = True
            engine.share("share()", [v])
            engine.parameters.private_view(v)[0] = 1.0
            engine.parameters.take_edits([v])
            tf.optimizers.SGD(0.1).apply_gradients([(np.ones(50_000, np.float32), v)])
            engine.parameters.discard_edits([v])
            assert mapped()[0] >= 3  # the block, and each replica's view

        train()
        before = mapped()
        for _ in range(3):
            train()
        return mapped() == before

    assert VirtualStrategy(2).run(program) is True


def test_a_collection_in_the_middle_of_a_walk_through_the_views():
    """Variables in reference cycles die when the collector runs, which may be at any allocation."""

    def program():
        engine = StepEngine.of(get_replica_context())
        variables = [tf.Variable(np.zeros(4, np.float32)) for _ in range(3)]
        for v in variables:
            v.storage.copy_on_write = True
        engine.share("share()", variables)
        kept, dropped = variables[0], variables[1:]
        kept.assign(np.ones(4, np.float32))
        block = engine.parameters.of(kept).block
        entry = block._entries[id(kept)]
        reference = entry.variable
        entry.variable = lambda: (gc.collect(), reference())[1]
        dropped.append(dropped)
        del v, variables, dropped
        engine.parameters.discard_edits([kept])  # which looks at all that are alive
        return len(block._entries)

    gc.disable()
    try:
        assert VirtualStrategy(2).run(program) == 1
    finally:
        gc.enable()
