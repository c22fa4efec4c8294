"""Hyperparameters: kinds, dtypes, overwriting, attributes, keywords."""

import numpy as np
import pytest

from distopt import Variable, constant
from distopt.optimizers import SGD, Adagrad, Adam, Ftrl, Nadam, Optimizer, RMSprop
from distopt.optimizers.schedules import ExponentialDecay, LearningRateSchedule, PiecewiseConstantDecay


def step(opt, v=None, g=1.0):
    """How far one step with gradient ``g`` goes."""
    v = Variable(0.0) if v is None else v
    before = v.numpy()
    opt.apply_gradients([(np.asarray(g, v.dtype), v)])
    return before - v.numpy()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_python_numbers_pass_through_float32(dtype):
    v = Variable(np.zeros((), dtype))
    assert step(SGD(0.1), v) == np.dtype(dtype).type(np.float32(0.1))


def test_what_a_callable_returns_passes_through_float32():
    assert step(SGD(lambda: 0.1), Variable(np.zeros((), "f8"))) == 0.10000000149011612


def test_numpy_scalars_and_tensors_keep_their_dtype():
    assert step(SGD(lambda: np.float64(0.1)), Variable(np.zeros((), "f8"))) == 0.1
    for value in (np.float64(0.1), constant(np.float64(0.1)), Variable(np.float64(0.1))):
        opt = SGD(value)
        assert step(opt, Variable(np.zeros((), "f8"))) == 0.1
        assert opt.learning_rate.dtype == np.float64


def test_an_int_is_a_float():
    opt = SGD(1)
    assert step(opt) == 1
    opt.learning_rate = 0.5
    assert step(opt) == 0.5
    assert opt.get_config()["learning_rate"] == 0.5


def test_epsilon_is_taken_in_the_variables_dtype():
    v = Variable(np.zeros((), "f8"))
    opt = Adagrad(1.0, initial_accumulator_value=0.0, epsilon=0.1)
    assert step(opt, v) == 1 / (1 + 0.1)


@pytest.mark.parametrize("cls", [Adam, RMSprop, Nadam, Adagrad])
def test_no_epsilon_means_the_default(cls):
    assert cls(epsilon=None).epsilon == cls(epsilon=0).epsilon == 1e-7


def test_callables_and_schedules_are_called_once_a_step_for_each_dtype():
    calls = []

    def rate():
        calls.append(1)
        return 0.5

    class Schedule(LearningRateSchedule):
        def __call__(self, step):
            calls.append(step.dtype)
            return 0.5

    single = [Variable(0.0), Variable([0.0, 0.0])]
    double = [Variable(np.zeros(3, "f8"))]
    for value in (rate, Schedule()):
        del calls[:]
        SGD(value).apply_gradients([(np.ones(v.shape, v.dtype), v) for v in single + double])
        assert len(calls) == 2
    assert calls == [np.float32, np.float64]


def test_schedule_follows_iterations():
    opt = SGD(PiecewiseConstantDecay([1, 2], [1.0, 0.5, 0.25]))
    assert [float(step(opt)) for _ in range(4)] == [1.0, 1.0, 0.5, 0.25]
    opt.iterations.assign(2)
    assert step(opt) == 0.5


def test_decay_divides_the_rate_and_stands_on_top_of_schedules():
    opt = SGD(1.0, decay=1.0)
    assert [float(step(opt)) for _ in range(3)] == [1.0, 0.5, np.float32(1) / 3]
    opt.decay = 3.0
    assert step(opt) == np.float32(0.1)
    opt = SGD(PiecewiseConstantDecay([0], [1.0, 4.0]), decay=1.0)
    assert [float(step(opt)) for _ in range(2)] == [1.0, 2.0]


def test_decay_set_later_has_no_effect_if_it_was_none():
    opt = SGD(1.0)
    opt.decay = 1.0
    assert [float(step(opt)) for _ in range(2)] == [1.0, 1.0]


def test_overwriting():
    opt = SGD(1.0)
    opt.learning_rate = 0.5
    assert step(opt) == 0.5
    opt.lr = 0.25
    assert step(opt) == 0.25
    opt.learning_rate.assign(2.0)
    assert step(opt) == 2.0
    opt.learning_rate = ExponentialDecay(4.0, 1, 0.5)
    opt.iterations.assign(0)
    assert step(opt) == 4.0
    opt.learning_rate = 0.1
    assert step(opt, Variable(np.zeros((), "f8"))) == np.float32(0.1)
    opt.learning_rate = lambda: 3.0
    assert step(opt) == 3.0


def test_overwriting_a_variable_of_ones_own_assigns_to_it():
    rate = Variable(1.0)
    opt = SGD(rate)
    opt.learning_rate = 0.5
    assert float(rate) == 0.5
    assert step(opt) == 0.5


def test_numpy_scalar_overwritten_before_the_first_step():
    opt = SGD(np.float32(1.0))
    opt.learning_rate = 0.5
    assert step(opt) == 0.5


def test_callable_in_place_of_a_number_in_use():
    opt = SGD(1.0)
    opt.learning_rate = lambda: 0.5
    assert step(opt) == 0.5
    opt = SGD(1.0)
    step(opt)
    with pytest.raises(TypeError, match=r"learning_rate.*SGD"):
        opt.learning_rate = lambda: 0.5


def test_attributes():
    opt = SGD(0.5, momentum=0.5)
    assert {"lr", "learning_rate", "decay", "momentum"} <= set(dir(opt))
    assert opt.learning_rate.name == "learning_rate:0"
    assert float(opt.lr) == 0.5
    assert opt.weights == []
    with pytest.raises(AttributeError, match="'SGD' object has no attribute 'rho'"):
        _ = opt.rho
    with pytest.raises(KeyError):
        opt._get_hyper("rho")
    with pytest.raises(KeyError):
        opt._serialize_hyperparameter("rho")


def test_names_of_hypers_made_in_a_step():
    opt = SGD()
    step(opt)
    assert opt.learning_rate.name == "SGD/learning_rate:0"


def test_attributes_are_read_at_each_step():
    opt = SGD(1.0)
    opt.clipvalue = 0.5
    assert step(opt) == 0.5
    opt.clipvalue = None
    assert step(opt) == 1.0
    opt.gradient_transformers = [lambda pairs: [(g * 3, v) for g, v in pairs]]
    assert step(opt) == 3.0


def test_slots_of_flags_set_late():
    v, opt = Variable(0.0), Adam()
    step(opt, v)
    opt.amsgrad = True
    step(opt, v)
    assert opt.get_slot_names() == ["m", "v", "vhat"]
    v, opt = Variable(0.0), SGD(1.0)
    opt.momentum = 0.9
    assert [float(step(opt, v)), float(step(opt, v))] == [1.0, 1.0]
    assert opt.get_slot_names() == []


def test_a_callable_momentum_makes_the_slot():
    v, opt = Variable(0.0), SGD(1.0, momentum=lambda: 0.0)
    step(opt, v)
    assert opt.get_slot_names() == ["momentum"]


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: SGD(foo=1), TypeError, "Unexpected keyword argument passed to optimizer: foo"),
        (lambda: SGD(schedule_decay=1), TypeError, "schedule_decay"),
        (lambda: SGD(decay=-0.1), ValueError, "Expected decay >= 0, received: -0.1"),
        (lambda: SGD(decay=None), TypeError, "decay"),
        (lambda: SGD(lr=-1.0), ValueError, "Expected lr >= 0"),
        (lambda: SGD(clipnorm=-1.0), ValueError, "Expected clipnorm >= 0"),
        (lambda: SGD(clipvalue=-1), ValueError, "Expected clipvalue >= 0"),
        (lambda: SGD(global_clipnorm=-1), ValueError, "Expected global_clipnorm >= 0"),
        (lambda: SGD(clipnorm=1.0, global_clipnorm=1.0), ValueError, "Cannot accept both"),
        (lambda: SGD(momentum=1.5), ValueError, r"between 0 and 1"),
        (lambda: SGD(momentum=-1), ValueError, r"between 0 and 1"),
        (lambda: RMSprop(momentum=2), ValueError, r"between 0 and 1"),
        (lambda: Adagrad(initial_accumulator_value=-1.0), ValueError, "initial_accumulator_value"),
        (lambda: Ftrl(initial_accumulator_value=-1.0), ValueError, "initial_accumulator_value"),
        (lambda: Ftrl(l1_regularization_strength=-1.0), ValueError, "l1_regularization_strength"),
        (lambda: Ftrl(l2_regularization_strength=-1.0), ValueError, "l2_regularization_strength"),
        (lambda: Ftrl(l2_shrinkage_regularization_strength=-1.0), ValueError, "l2_shrinkage"),
        (lambda: Ftrl(learning_rate_power=0.5), ValueError, "learning_rate_power"),
        (lambda: Nadam(ExponentialDecay(0.1, 1, 0.5)), ValueError, "LearningRateSchedule"),
        (lambda: Nadam(lr=ExponentialDecay(0.1, 1, 0.5)), ValueError, "LearningRateSchedule"),
        (lambda: Optimizer("base"), TypeError, "get_config"),
    ],
)
def test_wrong_arguments(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_allowed_arguments():
    assert SGD(clipnorm=None, clipvalue=0).clipvalue == 0
    assert float(step(SGD(-1.0))) == -1.0
    assert SGD(0.1, lr=0.5).get_config()["learning_rate"] == 0.5
    assert Ftrl(0.1, lr=0.5).get_config()["learning_rate"] == 0.1
    opt = SGD(clipnorm=1.0)
    opt.global_clipnorm = -1.0
    assert opt.global_clipnorm == -1.0


def test_nadams_decay_is_the_schedules():
    opt, plain = Nadam(1.0, decay=0.5), Nadam(1.0)
    assert float(opt.decay) == np.float32(0.004)
    same, other = Variable(0.0), Variable(0.0)
    opt.decay = 0.9
    for _ in range(3):
        assert step(opt, same) == step(plain, other)
    again = Nadam.from_config(Nadam(schedule_decay=0.01).get_config())
    assert again.get_config()["decay"] == 0.01


def test_mixed_dtypes_in_nadam_move_the_cache_once():
    opt = Nadam(0.1)
    a, b = Variable(np.zeros(2, "f8")), Variable(np.zeros(2, "f4"))
    opt.apply_gradients([(np.ones(2, "f8"), a), (np.ones(2, "f4"), b)])
    cache = opt.weights[1]
    assert cache.dtype == np.float64
    first = cache.numpy()
    opt.apply_gradients([(np.ones(2, "f4"), b)])
    assert cache.numpy() == first
    alone, single = Nadam(0.1), Variable(np.zeros(2, "f8"))
    alone.apply_gradients([(np.ones(2, "f8"), single)])
    assert (single.numpy() == a.numpy()).all()
