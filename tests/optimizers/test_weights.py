"""Slots and weights: names, order, reading, setting, copying."""

import copy

import numpy as np
import pytest

from distopt import Variable, VariableSynchronization, constant
from distopt.optimizers import SGD, Adadelta, Adagrad, Adam, Adamax, RMSprop


@pytest.fixture
def v():
    return Variable(np.zeros((2, 3), "f4"), name="v")


def train(opt, *variables):
    opt.apply_gradients([(np.ones(v.shape, v.dtype), v) for v in variables])
    return opt


def test_fresh_optimizer_has_no_weights():
    opt = Adam()
    assert opt.weights == opt.get_weights() == opt.get_slot_names() == []
    opt.set_weights([])
    with pytest.raises(ValueError, match="with a weight list of length 1, but the optimizer was expecting 0"):
        opt.set_weights([np.array(1)])


def test_weights_and_variables_are_one_list(v):
    opt = train(Adam(), v)
    assert opt.weights is opt.variables()
    assert opt.weights[0] is opt.iterations
    assert opt.weights[1] is opt.get_slot(v, "m")


def test_get_weights_copies(v):
    opt = train(Adam(), v)
    values = opt.get_weights()
    assert isinstance(values[0], np.int64)
    values[1][...] = 7
    assert opt.get_slot(v, "m").numpy().max() < 1


def test_set_weights_casts(v):
    opt = train(Adam(), v)
    opt.set_weights([np.array(10.0), np.ones((2, 3), "f8"), np.full((2, 3), 2)])
    assert repr(opt.iterations) == "<tf.Variable 'Adam/iter:0' shape=() dtype=int64, numpy=10>"
    assert opt.get_slot(v, "v").dtype == np.float32
    assert opt.get_slot(v, "v").numpy().tolist() == [[2.0] * 3] * 2


@pytest.mark.parametrize(
    "weights",
    [
        [np.array(1)],
        [np.array(1), np.ones((2, 3)), np.ones((3, 2))],
        [np.ones(1), np.ones((2, 3)), np.ones((2, 3))],
        [np.array(1)] + [np.ones((2, 3))] * 4,
    ],
)
def test_set_weights_is_all_or_nothing(v, weights):
    opt = train(Adam(), v)
    before = opt.get_weights()
    with pytest.raises(ValueError, match="Adam"):
        opt.set_weights(weights)
    assert all((a == b).all() for a, b in zip(before, opt.get_weights()))


def test_weights_of_amsgrad_fit_plain_adam(v):
    source = train(Adam(amsgrad=True), v)
    opt = train(Adam(), v)
    opt.set_weights(source.get_weights())
    assert (opt.get_slot(v, "v").numpy() == source.get_slot(v, "v").numpy()).all()


@pytest.mark.parametrize("cls", [Adagrad, Adadelta, RMSprop])
def test_weights_without_the_step_count(v, cls):
    opt = train(cls(), v)
    opt.set_weights(opt.get_weights()[1:])
    assert int(opt.iterations) == 0


@pytest.mark.parametrize("cls", [Adamax, Adam])
def test_others_need_the_step_count(v, cls):
    opt = train(cls(), v)
    with pytest.raises(ValueError, match="weight list"):
        opt.set_weights(opt.get_weights()[1:])


def test_iterations_may_be_ones_own_variable_before_it_exists(v):
    own = Variable(np.int64(5), name="steps")
    opt = SGD()
    opt.iterations = own
    train(opt, v)
    assert int(own) == 6
    assert opt.weights == [own]
    with pytest.raises(RuntimeError, match="Cannot set `iterations` to a new Variable"):
        opt.iterations = Variable(np.int64(0))


def test_name_of_iterations_read_before_the_first_step(v):
    opt = SGD()
    assert opt.iterations.name == "iter:0"
    assert train(SGD(name="mine"), v).iterations.name == "mine/iter:0"


def test_add_slot(v):
    opt = SGD()
    zeros = opt.add_slot(v, "a")
    ones = opt.add_slot(v, "b", "ones")
    filled = opt.add_slot(v, "c", lambda shape, dtype: np.full(shape, 3, dtype))
    array = opt.add_slot(v, "d", np.arange(4.0))
    number = opt.add_slot(v, "e", 2.5)
    tensor = opt.add_slot(v, "f", constant([1.0]))
    assert [s.numpy().max() for s in (zeros, ones, filled, array, number, tensor)] == [0, 1, 3, 3, 2.5, 1]
    assert [s.shape for s in (filled, array, number)] == [(2, 3), (4,), ()]
    assert {s.dtype for s in opt.weights} == {np.dtype("f4")}
    assert not any(s.trainable for s in opt.weights)
    assert zeros.name == "v/a:0"
    assert opt.add_slot(v, "a", "ones") is zeros
    assert opt.get_slot(v, "b") is ones
    assert opt.get_slot_names() == ["a", "b", "c", "d", "e", "f"]
    with pytest.raises(ValueError, match="initializer"):
        opt.add_slot(v, "g", "nope")


def test_get_slot_of_the_unknown(v):
    opt = train(Adam(), v)
    with pytest.raises(KeyError, match="nope"):
        opt.get_slot(v, "nope")
    with pytest.raises(KeyError, match="other"):
        opt.get_slot(Variable(1.0, name="other"), "m")


def test_variables_of_one_name_have_slots_of_their_own(v):
    twin = Variable(np.zeros((2, 3), "f4"), name="v")
    opt = train(Adam(), v, twin)
    assert len(opt.weights) == 5
    assert opt.get_slot(v, "m") is not opt.get_slot(twin, "m")


def test_add_weight():
    opt = SGD()
    weight = opt.add_weight("w", shape=[2], initializer="ones")
    assert (weight.name, weight.dtype, weight.trainable, weight.numpy().tolist()) == (
        "w:0",
        np.float32,
        True,
        [1, 1],
    )
    number = opt.add_weight("n", shape=[], dtype="int64", initializer=3, trainable=False)
    assert (int(number), number.dtype, number.trainable) == (3, np.int64, False)
    on_read = opt.add_weight("r", shape=[], synchronization=VariableSynchronization.ON_READ)
    assert not on_read.trainable
    with pytest.raises(ValueError, match="ON_READ"):
        opt.add_weight("r", shape=[], trainable=True, synchronization=VariableSynchronization.ON_READ)
    assert opt.weights == []


def test_deepcopy_goes_on_alone(v):
    opt = train(Adam(), v)
    twin = copy.deepcopy(opt)
    train(twin, v)
    assert (int(opt.iterations), int(twin.iterations)) == (1, 2)
    assert len(twin.weights) == 3
    assert twin.weights[1] is twin.get_slot(v, "m")
    assert twin.get_slot(v, "m").numpy().max() > opt.get_slot(v, "m").numpy().max()


def test_deepcopy_together_with_the_variables(v):
    opt = train(Adam(), v)
    other, twin = copy.deepcopy((v, opt))
    train(twin, other)
    assert len(twin.weights) == 3
    assert (other.numpy() != v.numpy()).all()
