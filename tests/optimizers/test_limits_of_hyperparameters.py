"""Hyperparameters that cannot be meant are refused, wherever they come from; nothing is changed then."""

import numpy as np
import pytest

import distopt
from distopt import Variable, constant, optimizers, transforms
from distopt.optimizers import SGD, Adam
from distopt.optimizers.schedules import LearningRateSchedule, PiecewiseConstantDecay

NAN, INF = float("nan"), float("inf")
BAD = {
    "learning_rate": (NAN, INF, -INF),
    "decay": (NAN, INF, -0.5),
    **dict.fromkeys(("momentum", "rho", "beta_1", "beta_2"), (NAN, INF, -0.1, 1.5)),
    **dict.fromkeys(("l1_regularization_strength", "l2_regularization_strength"), (NAN, INF, -0.1)),
    "learning_rate_power": (NAN, -INF, 0.5),
    "beta": (NAN, INF),
}
ALL = [
    *("SGD", "RMSprop", "Adam", "Adamax", "Nadam", "Adagrad", "Adadelta", "Ftrl"),
    *("AdamW", "Lion", "RAdam", "AdaBelief", "LAMB", "LARS"),
]


def hypers(name):
    return sorted(set(getattr(optimizers, name)()._hypers) & set(BAD))


CASES = [(name, hyper, bad) for name in ALL for hyper in hypers(name) for bad in BAD[hyper]]
#: Ways to write a number.
SPELLINGS = {
    "float": float,
    "NumPy float32": np.float32,
    "array": np.array,
    "tensor": constant,
    "Variable": lambda value: Variable(np.float64(value)),
}


def step(optimizer, v):
    optimizer.apply_gradients([(np.ones(v.shape, v.dtype), v)])


def refused(name, call):
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        call()


@pytest.mark.parametrize(("name", "hyper", "bad"), CASES)
def test_in_the_constructor(name, hyper, bad):
    if (name, hyper) != ("Nadam", "decay"):  # is the schedule's
        refused(hyper, lambda: getattr(optimizers, name)(**{hyper: bad}))
        config = {**getattr(optimizers, name)().get_config(), hyper: bad}
        refused(hyper, lambda: getattr(optimizers, name).from_config(config))
        refused(hyper, lambda: optimizers.get({"class_name": name, "config": config}))


@pytest.mark.parametrize(("name", "hyper", "bad"), CASES)
@pytest.mark.parametrize("used", [False, True])
def test_when_set_later(name, hyper, bad, used):
    optimizer, v = getattr(optimizers, name)(), Variable([1.0, 2.0])
    if used:
        step(optimizer, v)
    before = optimizer._serialize_hyperparameter(hyper)
    refused(hyper, lambda: setattr(optimizer, hyper, bad))
    refused(hyper, lambda: optimizer._set_hyper(hyper, np.float64(bad)))
    assert optimizer._serialize_hyperparameter(hyper) == before


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_however_the_number_is_spelled(spelling):
    spell = SPELLINGS[spelling]
    for hyper, bad in (("learning_rate", NAN), ("beta_1", 1.5), ("beta_2", -0.5)):
        refused(hyper, lambda: Adam(**{hyper: spell(bad)}))
        refused(hyper, lambda: setattr(Adam(), hyper, spell(bad)))
    refused("momentum", lambda: SGD(momentum=spell(1.5)))
    refused("learning_rate", lambda: SGD(lr=spell(NAN)))
    refused("epsilon", lambda: Adam(epsilon=spell(-1.0)))


def test_a_number_that_is_infinite_in_float32():
    refused("learning_rate", lambda: SGD(1e300))
    optimizer = SGD()
    step(optimizer, Variable([1.0]))
    refused("learning_rate", lambda: setattr(optimizer, "lr", 1e300))
    assert float(SGD(np.float64(1e300)).learning_rate) == 1e300


@pytest.mark.parametrize(("hyper", "bad"), [("learning_rate", NAN), ("beta_1", 2.0)])
def test_a_variable_that_was_assigned_to(replicas, hyper, bad):
    """One's own, or the optimizer's: it is looked at in each step."""

    def program(own):
        hyperparameter = Variable(0.5)
        optimizer, v = Adam(**({hyper: hyperparameter} if own else {})), Variable([1.0])
        step(optimizer, v)
        before, weights = v.numpy(), optimizer.get_weights()
        getattr(optimizer, hyper).assign(bad)
        refused(hyper, lambda: step(optimizer, v))
        unchanged = v.numpy() == before and all(map(np.array_equal, weights, optimizer.get_weights()))
        getattr(optimizer, hyper).assign(0.5)
        step(optimizer, v)
        return bool(unchanged), int(optimizer.iterations)

    for own in (False, True):
        assert replicas.run(lambda: program(own)) == [(True, 2)] * replicas.size


class Own(LearningRateSchedule):
    def __call__(self, step):
        return float("nan") if step >= 1 else 0.5


def ends_badly():
    yield 0.5
    yield from iter(lambda: INF, 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PiecewiseConstantDecay([0], [1.0, NAN]),
        lambda: PiecewiseConstantDecay([0], [1.0, -INF]),
        Own,
        lambda: ends_badly().__next__,
    ],
)
def test_what_schedules_and_callables_return(replicas, make):
    """The first step is good, the second is not made: on no replica."""

    def program():
        optimizer, v = SGD(make()), Variable([1.0])
        step(optimizer, v)
        before = v.numpy()
        refused("learning_rate", lambda: step(optimizer, v))
        unchanged = v.numpy() == before
        optimizer.learning_rate = 0.25
        step(optimizer, v)
        return bool(unchanged), int(optimizer.iterations)

    assert replicas.run(program) == [(True, 2)] * replicas.size


def test_callables_for_other_hyperparameters():
    v = Variable([1.0])
    refused("beta_1", lambda: step(Adam(beta_1=lambda: 1.5), v))
    refused("momentum", lambda: step(SGD(momentum=lambda: NAN), v))
    assert v.numpy() == 1.0


@pytest.mark.parametrize(
    "name", ["Adam", "RMSprop", "Adamax", "Nadam", "Adagrad", "Adadelta", "AdamW", "RAdam", "AdaBelief"]
)
@pytest.mark.parametrize("bad", [-1e-7, NAN, INF])
def test_epsilon(name, bad):
    refused("epsilon", lambda: getattr(optimizers, name)(epsilon=bad))
    optimizer = getattr(optimizers, name)()
    refused("epsilon", lambda: setattr(optimizer, "epsilon", bad))
    assert optimizer.epsilon == {"RAdam": 1e-8, "AdaBelief": 1e-16}.get(name, 1e-7)
    with pytest.raises(TypeError, match="epsilon"):
        optimizer.epsilon = None


@pytest.mark.parametrize(
    ("clip", "bad"),
    [
        ("clipvalue", NAN),
        ("clipnorm", NAN),
        ("clipnorm", INF),
        ("global_clipnorm", NAN),
        ("global_clipnorm", INF),
    ],
)
def test_clips(clip, bad):
    for spell in SPELLINGS.values():
        refused(clip, lambda: SGD(**{clip: spell(bad)}))
        refused(clip, lambda: setattr(SGD(), clip, spell(bad)))


def test_transformers_that_clip():
    for name, bad in (
        ("ClipByValue", NAN),
        ("ClipByNorm", NAN),
        ("ClipByNorm", INF),
        ("ClipByGlobalNorm", NAN),
    ):
        refused("limit", lambda: getattr(transforms, name)(bad))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda bad: optimizers.Adagrad(initial_accumulator_value=bad), "initial_accumulator_value"),
        (lambda bad: optimizers.Ftrl(initial_accumulator_value=bad), "initial_accumulator_value"),
        (
            lambda bad: optimizers.Ftrl(l2_shrinkage_regularization_strength=bad),
            "l2_shrinkage_regularization_strength",
        ),
        (lambda bad: optimizers.Nadam(schedule_decay=bad), "decay"),
    ],
)
@pytest.mark.parametrize("bad", [NAN, INF, -1.0])
def test_what_is_set_in_constructors_only(make, name, bad):
    refused(name, lambda: make(bad))


@pytest.mark.parametrize("bad", [NAN, INF, 1.5, 1j])
def test_a_step_count_that_is_none_in_set_weights(bad):
    optimizer, v = Adam(), Variable([1.0])
    step(optimizer, v)
    weights = optimizer.get_weights()
    refused("iter:0", lambda: optimizer.set_weights([np.array(bad), *weights[1:]]))
    assert int(optimizer.iterations) == 1
    optimizer.set_weights([np.array(7.0), *weights[1:]])
    assert int(optimizer.iterations) == 7


def test_what_stays_allowed():
    v = Variable([1.0])
    step(SGD(-0.5), v)
    assert v.numpy() == 1.5
    step(Adam(beta_1=0, beta_2=0.0), v)
    step(SGD(0.1, clipvalue=INF), v)
    assert np.isfinite(v.numpy()).all()
    assert Adam(epsilon=None).epsilon == Adam(epsilon=0).epsilon == 1e-7
    assert float(Adam(beta_1=1.0).beta_1) == 1.0


def test_other_names_of_ones_own_optimizers_are_free():
    class Own(distopt.optimizers.Optimizer):
        def __init__(self):
            super().__init__("Own")
            self._set_hyper("learning_rate", 1.0)
            self._set_hyper("rho", 7.0)
            self.epsilon = None

        def get_config(self):
            return super().get_config()

    optimizer = Own()
    optimizer.rho = -3.0
    assert float(optimizer.rho) == -3.0
    refused("learning_rate", lambda: setattr(optimizer, "lr", NAN))
