"""What a subclass overrides is what the optimizer calls, also where another object does the work."""

import numpy as np
import pytest

from distopt import IndexedSlices, Variable, math
from distopt.optimizers import SGD, Adam
from distopt.optimizers.schedules import ExponentialDecay


def recorder(base, hooks):
    """A subclass of ``base`` and the list that calls of these hooks are added to."""
    calls = []

    def override(hook):
        def method(self, *args, **kwargs):
            calls.append(hook)
            return getattr(base, hook)(self, *args, **kwargs)

        return method

    return type("Recorder", (base,), {hook: override(hook) for hook in hooks}), calls


def variables():
    return Variable([1.0, 2.0], name="v"), Variable(3.0, name="w")


def minimize(optimizer, v, w):
    return optimizer.minimize(lambda: math.reduce_sum(v * v) + w, [v, w])


#: Hooks, and what a program does that calls them.
CALLED_BY = {
    "_set_hyper": lambda o, v, w: setattr(o, "lr", 0.5),
    "_get_hyper": lambda o, v, w: o.learning_rate,
    "_create_hypers": minimize,
    "_serialize_hyperparameter": lambda o, v, w: o.get_config(),
    "_decayed_lr": minimize,
    "add_weight": minimize,
    "add_slot": minimize,
    "get_slot": lambda o, v, w: o._resource_apply_dense(np.ones(2, "f4"), v),
    "_create_slots": minimize,
    "_create_all_weights": minimize,
    "_prepare_local": minimize,
    "_compute_gradients": minimize,
    "_transform_loss": minimize,
    "_get_gradients": minimize,
    "_assert_valid_dtypes": minimize,
    "_transform_unaggregated_gradients": minimize,
    "_aggregate_gradients": minimize,
    "_transform_gradients": minimize,
    "_resource_apply_dense": minimize,
    "_resource_apply_sparse": lambda o, v, w: o.apply_gradients(
        [(IndexedSlices(np.ones(1, "f4"), np.array([1]), (2,)), v)]
    ),
    "_finish_step": minimize,
    "apply_gradients": minimize,
    "get_gradients": lambda o, v, w: o.get_updates(lambda: math.reduce_sum(v * v), [v]),
}


@pytest.mark.parametrize("hook", CALLED_BY)
def test_an_override_is_called(hook):
    cls, calls = recorder(Adam, [hook])
    (v, w), optimizer = variables(), cls(0.1, decay=0.1)
    optimizer.add_slot(v, "m")
    optimizer.add_slot(v, "v")
    del calls[:]
    CALLED_BY[hook](optimizer, v, w)
    assert set(calls) == {hook}


def test_a_property_of_a_subclass_is_read():
    class Reversed(Adam):
        @property
        def weights(self):
            return super().weights[::-1]

    (v, w), optimizer = variables(), Reversed(0.1)
    minimize(optimizer, v, w)
    assert optimizer.variables() == optimizer.weights
    values = optimizer.get_weights()
    assert values[-1] == 1  # the step count
    optimizer.set_weights([value * 2 for value in values])
    assert int(optimizer.iterations) == 2


def test_the_order_of_a_step():
    order = [
        "_compute_gradients",
        "_transform_loss",
        "_get_gradients",
        "_assert_valid_dtypes",
        "apply_gradients",
        "_create_all_weights",
        "add_weight",  # the step count
        "_create_hypers",
        "_create_slots",
        "add_slot",
        "_prepare_local",
        "_decayed_lr",
        "_get_hyper",
        "_transform_unaggregated_gradients",
        "_aggregate_gradients",
        "_transform_gradients",
        "_resource_apply_dense",
        "_finish_step",
    ]
    cls, calls = recorder(SGD, order)
    (v, w), optimizer = variables(), cls(ExponentialDecay(0.1, 2, 0.5), momentum=0.5)
    minimize(optimizer, v, w)
    assert list(dict.fromkeys(calls)) == order
    assert calls.count("add_slot") == calls.count("_resource_apply_dense") == 2
