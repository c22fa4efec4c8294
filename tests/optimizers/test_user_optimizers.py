"""Optimizers that users write: whole ones, and built-in ones with one hook replaced."""

import numpy as np
import pytest

from distopt import IndexedSlices, Variable
from distopt.distribute import get_replica_context
from distopt.optimizers import SGD, Adam, Optimizer


class Momentum(Optimizer):
    """Momentum as the documents say that one writes an optimizer."""

    def __init__(self, learning_rate=0.1, rho=0.5, name="Momentum", **kwargs):
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", kwargs.get("lr", learning_rate))
        self._set_hyper("decay", self._initial_decay)
        self._set_hyper("rho", rho)

    def _create_slots(self, var_list):
        for var in var_list:
            self.add_slot(var, "m")

    def _prepare_local(self, var_device, var_dtype, apply_state):
        super()._prepare_local(var_device, var_dtype, apply_state)
        apply_state[(var_device, var_dtype)]["rho"] = self._get_hyper("rho", var_dtype)

    def _resource_apply_dense(self, grad, var, apply_state=None):
        coefficients = (apply_state or {}).get((var.device, var.dtype)) or self._fallback_apply_state(
            var.device, var.dtype
        )
        m = self.get_slot(var, "m")
        m.assign(coefficients["rho"] * m + grad)
        return var.assign_sub(coefficients["lr_t"] * m)

    def _resource_apply_sparse(self, grad, var, indices):
        dense = np.zeros(var.shape, var.dtype)
        dense[indices] = grad
        return self._resource_apply_dense(dense, var)

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "learning_rate": self._serialize_hyperparameter("learning_rate"),
                "decay": self._serialize_hyperparameter("decay"),
                "rho": self._serialize_hyperparameter("rho"),
            }
        )
        return config


def by_hand(gradients, rate=0.1, rho=0.5):
    w = m = np.float32(0)
    for g in gradients:
        m = np.float32(rho) * m + np.float32(g)
        w = w - np.float32(rate) * m
    return w


def test_user_optimizer():
    v, opt = Variable(0.0, name="v"), Momentum()
    for g in (1.0, 2.0, 3.0):
        opt.minimize(lambda g=g: v * g, [v])
    assert v.numpy() == by_hand([1, 2, 3])
    assert [w.name for w in opt.weights] == ["Momentum/iter:0", "Momentum/v/m:0"]
    assert float(opt.rho) == 0.5
    opt.rho = 0.0
    assert opt.get_config() == {
        "name": "Momentum",
        "learning_rate": np.float32(0.1),
        "decay": 0.0,
        "rho": 0.0,
    }
    again = Momentum.from_config(Momentum(rho=0.25, clipnorm=2.0).get_config())
    assert again.get_config()["rho"] == 0.25
    assert again.clipnorm == 2.0


def test_sparse_duplicates_are_summed_before_they_arrive():
    v, opt = Variable(np.zeros((3, 1), "f4")), Momentum(1.0)
    opt.apply_gradients([(IndexedSlices(np.array([[1.0], [2.0], [4.0]], "f4"), np.array([2, 0, 2])), v)])
    assert v.numpy().tolist() == [[-2.0], [0.0], [-5.0]]


def test_user_optimizer_on_replicas(replicas):
    def program():
        v, opt = Variable(0.0), Momentum()
        for g in (1.0, 2.0, 3.0):
            opt.apply_gradients([(np.float32(g) / get_replica_context().num_replicas_in_sync, v)])
        return v.numpy().item()

    assert replicas.run(program) == [by_hand([1, 2, 3]).item()] * replicas.size


def test_hooks_that_are_missing():
    class Empty(Optimizer):
        def get_config(self):
            return super().get_config()

    opt = Empty("empty")
    v = Variable([1.0])
    with pytest.raises(NotImplementedError, match=r"Empty must override _resource_apply_dense"):
        opt.apply_gradients([([1.0], v)])
    with pytest.raises(NotImplementedError, match=r"Empty must override _resource_apply_sparse"):
        opt.apply_gradients([(IndexedSlices(np.ones(1, "f4"), np.array([0])), v)])
    assert int(opt.iterations) == 0


def test_warm_up_by_decayed_lr():
    class WarmUp(Adam):
        def _decayed_lr(self, var_dtype):
            return super()._decayed_lr(var_dtype) * 0

    v = Variable(1.0)
    WarmUp(0.5).apply_gradients([(1.0, v)])
    assert float(v) == 1.0


def hook_case(hook):
    """A subclass of SGD that calls super() and doubles the gradient in ``hook``, and how to see it."""

    def twice(pairs):
        return [(g * 2, v) for g, v in pairs]

    class Hooked(SGD):
        pass

    if hook in ("_transform_unaggregated_gradients", "_transform_gradients", "_aggregate_gradients"):
        setattr(Hooked, hook, lambda self, pairs: twice(getattr(SGD, hook)(self, pairs)))
    elif hook == "_resource_apply_dense":
        setattr(
            Hooked,
            hook,
            lambda self, grad, var, apply_state=None: SGD._resource_apply_dense(
                self, grad * 2, var, apply_state
            ),
        )
    elif hook == "_resource_apply_sparse":
        setattr(
            Hooked,
            hook,
            lambda self, grad, var, indices, apply_state=None: SGD._resource_apply_sparse(
                self, grad * 2, var, indices, apply_state
            ),
        )
    else:
        setattr(
            Hooked,
            hook,
            lambda self, grad, var, indices, **kw: SGD._resource_apply_sparse_duplicate_indices(
                self, grad * 2, var, indices, **kw
            ),
        )
    return Hooked


HOOKS = [
    "_transform_unaggregated_gradients",
    "_aggregate_gradients",
    "_transform_gradients",
    "_resource_apply_dense",
    "_resource_apply_sparse",
    "_resource_apply_sparse_duplicate_indices",
]


@pytest.mark.parametrize("hook", HOOKS)
def test_one_hook_of_a_built_in(hook, replicas):
    cls = hook_case(hook)

    def program():
        v = Variable(np.zeros((2, 1), "f4"))
        dense, rows = np.ones((2, 1), "f4"), IndexedSlices(np.ones((1, 1), "f4"), np.array([1]), (2, 1))
        cls(0.5).apply_gradients([(rows if "sparse" in hook else dense, v)])
        return v.numpy().reshape(-1).tolist()

    moved = [0.0 if "sparse" in hook else -1.0 * replicas.size, -1.0 * replicas.size]
    assert replicas.run(program) == [moved] * replicas.size


def test_a_hook_put_on_the_instance():
    opt, v = SGD(1.0), Variable(0.0)
    opt._transform_gradients = lambda pairs: [(g * 3, v) for g, v in pairs]
    opt.apply_gradients([(1.0, v)])
    assert float(v) == -3.0


def test_apply_state_may_be_changed():
    class Half(SGD):
        def _prepare_local(self, var_device, var_dtype, apply_state):
            super()._prepare_local(var_device, var_dtype, apply_state)
            apply_state[var_device, var_dtype]["lr_t"] *= 0.5

    v = Variable(0.0)
    Half(1.0).apply_gradients([(1.0, v)])
    assert float(v) == -0.5
