"""minimize, and the ways to say what is to be minimized."""

import numpy as np
import pytest

from distopt import GradientTape, Variable, constant
from distopt.distribute import VirtualStrategy
from distopt.optimizers import SGD


@pytest.fixture
def v():
    return Variable([1.0, 2.0], name="v")


def test_callable_loss(v):
    opt = SGD(0.5)
    result = opt.minimize(lambda: 3 * v, [v])
    assert v.numpy().tolist() == [-0.5, 0.5]
    assert int(result) == int(opt.iterations) == 1
    assert result.run() is None


def test_value_with_its_tape(v):
    with GradientTape() as tape:
        loss = np.sum(v * v)
    SGD(0.25).minimize(loss, [v], tape=tape)
    assert v.numpy().tolist() == [0.5, 1.0]


@pytest.mark.parametrize("loss", [None, 3.0, constant(1.0)])
def test_value_without_tape(v, loss):
    with pytest.raises(ValueError, match="`tape` is required"):
        SGD().minimize(loss, [v])


def test_grad_loss_weighs_the_elements(v):
    SGD(1.0).minimize(lambda: 3 * v, [v], grad_loss=np.array([1.0, 0.5], "f4"))
    assert v.numpy().tolist() == [-2.0, 0.5]
    with pytest.raises(ValueError, match="shape"):
        SGD(1.0).minimize(lambda: 3 * v, [v], grad_loss=np.ones(3, "f4"))


def test_var_list_forms(v):
    a, b = Variable(1.0, name="a"), Variable(1.0, name="b")
    loss = lambda: np.sum(v) + a + b  # noqa: E731
    for form in (v, (a,), [[a], (b, v)], {"x": a, "y": [b, v]}, lambda: [a, b]):
        assert SGD().minimize(loss, form) is not None
    opt = SGD()
    assert opt.minimize(loss, []) is None
    assert int(opt.iterations) == 0


def test_callable_var_list_is_called_after_the_loss():
    made = []

    def loss():
        if not made:
            made.append(Variable(2.0))
        return 3 * made[0]

    SGD(0.5).minimize(loss, lambda: made)
    assert float(made[0]) == 0.5


@pytest.mark.parametrize("var_list", [None, [1.0], constant([1.0])])
def test_what_is_no_variable(v, var_list):
    with pytest.raises(ValueError, match="Variable objects"):
        SGD().minimize(lambda: np.sum(v), var_list)


def test_listed_variables_are_watched_even_if_not_trainable():
    frozen = Variable([1.0], trainable=False, name="frozen")
    SGD(0.5).minimize(lambda: frozen * 2, [frozen])
    assert frozen.numpy().tolist() == [0.0]
    with pytest.raises(ValueError, match=r"No gradients provided.*frozen:0"):
        SGD(0.5).minimize(lambda: frozen * 2, lambda: [frozen])


def test_integer_variable_alone(v):
    count = Variable(1, name="count")
    with pytest.raises(ValueError, match="No gradients"):
        SGD().minimize(lambda: np.sum(v), [count])


def test_hooks_of_the_gradient(v):
    class Scaled(SGD):
        def _transform_loss(self, loss):
            return loss * 10

        def _get_gradients(self, tape, loss, var_list, grad_loss=None):
            return [(g / 5, v) for g, v in super()._get_gradients(tape, loss, var_list, grad_loss)]

    Scaled(1.0).minimize(lambda: np.sum(v), [v])
    assert v.numpy().tolist() == [-1.0, 0.0]
    with GradientTape() as tape:
        loss = np.sum(v)
    Scaled(1.0).minimize(loss, [v], tape=tape)
    assert v.numpy().tolist() == [-3.0, -2.0]


def test_get_gradients_and_get_updates(v):
    opt = SGD(1.0)
    (gradient,) = opt.get_gradients(lambda: np.sum(v * v), [v])
    assert gradient.numpy().tolist() == [2.0, 4.0]
    (step,) = opt.get_updates(lambda: np.sum(v * v), [v])
    assert int(step) == 1
    assert v.numpy().tolist() == [-1.0, -2.0]
    with pytest.raises(ValueError, match="`None` for gradient"):
        opt.get_gradients(lambda: np.sum(v), [v, Variable(1.0)])
    with pytest.raises(ValueError, match="callable"):
        opt.get_gradients(np.sum(v), [v])


def test_refused_in_cross_replica_context(v):
    with VirtualStrategy(2).scope(), pytest.raises(RuntimeError, match="cross-replica"):
        SGD().minimize(lambda: np.sum(v), [v])
    assert v.numpy().tolist() == [1.0, 2.0]
