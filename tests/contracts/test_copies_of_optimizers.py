"""Optimizers and schedules that were pickled or copied go on with the same bits as the original."""

import copy
import gc
import inspect
import pickle

import numpy as np
import programs
import pytest

from distopt import IndexedSlices, Variable, aggregators, optimizers
from distopt.optimizers import schedules

HOW = {"pickle": lambda x: pickle.loads(pickle.dumps(x)), "deepcopy": copy.deepcopy}
SCHEDULES = {
    "ExponentialDecay": (0.5, 2, 0.5, True),
    "InverseTimeDecay": (0.5, 2, 0.5),
    "PolynomialDecay": (0.5, 3),
    "PiecewiseConstantDecay": ([1, 3], [0.5, 0.25, 0.125]),
    "CosineDecay": (0.5, 7, 0.1),
    "CosineDecayRestarts": (0.5, 2),
    "LinearCosineDecay": (0.5, 7),
    "LinearScaling": (0.5, 3, 4),
    "NoisyLinearCosineDecay": (0.5, 7),
    "OneCycle": (0.5, 7),
    "WarmupStableDecay": (0.5, 2, 2, 3),
}
MAKERS = {
    **{name: lambda name=name: programs.make(name, learning_rate=0.1) for name in programs.OPTIMIZERS},
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True, decay=0.1),
    "centered": lambda: optimizers.RMSprop(0.1, momentum=0.5, centered=True),
    "amsgrad": lambda: optimizers.Adam(0.1, amsgrad=True, clipnorm=1.0),
    "clips": lambda: optimizers.Adam(0.1, clipvalue=0.5, global_clipnorm=1.0),
    "schedule": lambda: optimizers.Adam(schedules.ExponentialDecay(0.5, 2, 0.5)),
    "own variable": lambda: optimizers.Adam(Variable(0.25)),
    "weighted mean": lambda: optimizers.SGD(0.1, gradient_aggregator=aggregators.WeightedMean(3)),
    "chain": lambda: optimizers.SGD(0.1, gradient_aggregator=aggregators.chain("mean", "adasum")),
    "transformer": lambda: optimizers.Adagrad(0.1, gradient_transformers=[halved], on_nonfinite="skip"),
    "one's own": lambda: programs.Momentum(0.1),
    "averages": lambda: optimizers.Adam(0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2),
    **{name: lambda name=name: programs.wrapped(name) for name in programs.WRAPPERS},
}
#: Copies of these are quick; what is pickled goes through more, and is quick for more.
COPIED = ["SGD", "clips", "own variable", "weighted mean", "one's own"]
SLOW = set(programs.OPTIMIZERS) - set(programs.QUICK)
every_maker = pytest.mark.parametrize(
    ("make", "how"),
    [
        *(pytest.param(make, "pickle", marks=[pytest.mark.slow] if make in SLOW else []) for make in MAKERS),
        *(
            pytest.param(make, "deepcopy", marks=[] if make in COPIED else pytest.mark.slow)
            for make in MAKERS
        ),
    ],
)


def halved(pairs):
    return [(gradient * 0.5, variable) for gradient, variable in pairs]


def fresh():
    """Two of one name and shape, and two others."""
    generator = np.random.default_rng(0)
    shapes = {"v": (3, 2), "w": (), "x": (4,)}
    named = [Variable(generator.normal(size=s).astype("f4"), name=n) for n, s in shapes.items()]
    return [*named, Variable(generator.normal(size=(3, 2)).astype("f4"), name="v")]


def train(optimizer, variables, steps):
    for step in steps:
        generator = np.random.default_rng([step, programs.rank()])
        grads = [generator.normal(size=v.shape).astype("f4") for v in variables]
        if step % 3 == 2:
            grads[0] = IndexedSlices(grads[0][:2], np.array([2, 0]), (3, 2))
        optimizer.apply_gradients(list(zip(grads, variables)))


def names(optimizer):
    return [w.name for w in optimizer.weights]


def test_every_optimizer_and_schedule_is_here():
    for part, known in ((optimizers, programs.OPTIMIZERS + programs.WRAPPERS), (schedules, SCHEDULES)):
        abstract = {"Optimizer", "RuleOptimizer", "WholeVariableOptimizer", "LearningRateSchedule"}
        aliases = {"Lamb"}
        classes = {n for n in part.__all__ if inspect.isclass(getattr(part, n))} - abstract - aliases
        assert {c for c in classes if getattr(part, c).__module__.startswith(part.__name__)} == set(known)


@every_maker
def test_together_with_the_variables(replicas, make, how):
    """In whichever order they come; also before the first step."""

    def program():
        found = []
        for before in (0, 3):
            variables, optimizer = fresh(), MAKERS[make]()
            train(optimizer, variables, range(before))
            twin, copies = HOW[how]((optimizer, variables))
            copies2, twin2 = HOW[how]((variables, optimizer))
            for o, vs in ((optimizer, variables), (twin, copies), (twin2, copies2)):
                train(o, vs, range(before, before + 3))
            assert names(twin) == names(twin2) == names(optimizer)
            bits = programs.state(optimizer, variables)
            found += [
                programs.same_bits(bits, programs.state(o, v)) for o, v in ((twin, copies), (twin2, copies2))
            ]
        return found

    assert replicas.run(program) == [[True] * 4] * replicas.size


@every_maker
def test_the_optimizer_alone(replicas, make, how):
    """It goes on with variables of the same names: in another process there are no others."""

    def program():
        variables, optimizer = fresh(), MAKERS[make]()
        train(optimizer, variables, range(3))
        twin = HOW[how](optimizer)
        again = HOW[how](twin)  # not used in between
        assert programs.same_bits(twin.get_weights(), optimizer.get_weights())
        others = [Variable(v.numpy(), name=v.name.removesuffix(":0")) for v in variables]
        values = [v.numpy() for v in variables]
        train(optimizer, variables, range(3, 6))
        bits = programs.state(optimizer, variables)
        if how == "deepcopy":  # the variables are there: it is theirs
            others = variables
            for v, value in zip(variables, values):
                v.assign(value)
        train(again, others, range(3, 6))
        assert names(again) == names(optimizer)
        return programs.same_bits(bits, programs.state(again, others))

    assert replicas.run(program) == [True] * replicas.size


@pytest.mark.parametrize("how", HOW)
def test_a_copy_leaves_the_original_alone(replicas, how):
    def program():
        variables, optimizer = fresh(), optimizers.Adam(0.1)
        train(optimizer, variables, range(2))
        before = programs.state(optimizer, variables)
        twin, copies = HOW[how]((optimizer, variables))
        train(twin, copies, range(3))
        twin.learning_rate = 0.5
        slot = optimizer.get_slot(variables[0], "m").numpy()
        unchanged = programs.same_bits(before, programs.state(optimizer, variables))
        return unchanged and float(optimizer.learning_rate) == np.float32(0.1) and bool(slot.any())

    assert replicas.run(program) == [True] * replicas.size


def test_slots_of_a_copy_stay_with_their_variables():
    """A variable of the same name has slots of its own, as long as the first one is there."""
    v, namesake = Variable([1.0], name="v"), Variable([1.0], name="v")
    optimizer = optimizers.Adam(0.1)
    optimizer.apply_gradients([(np.ones(1, "f4"), v)])
    twin = copy.deepcopy(optimizer)
    twin.apply_gradients([(np.ones(1, "f4"), namesake)])
    assert len(twin.weights) == 5
    assert twin.get_slot(v, "m") is not twin.get_slot(namesake, "m")
    both, kept = pickle.loads(pickle.dumps((optimizer, v)))
    both.apply_gradients([(np.ones(1, "f4"), namesake)])
    assert len(both.weights) == 5
    assert both.get_slot(kept, "m").numpy() == optimizer.get_slot(v, "m").numpy()


def test_slots_that_nobody_can_find_are_a_key_error():
    v = Variable([1.0], name="v")
    optimizer = optimizers.Adam(0.1)
    optimizer.apply_gradients([(np.ones(1, "f4"), v)])
    alone = pickle.loads(pickle.dumps(optimizer))
    gc.collect()
    for stranger in (
        Variable([1.0], name="w"),
        Variable([1.0, 2.0], name="v"),
        Variable(np.ones(1), name="v"),
    ):
        with pytest.raises(KeyError, match="no slot 'm'"):
            alone.get_slot(stranger, "m")
    assert alone.get_slot(Variable([2.0], name="v"), "m").numpy() == optimizer.get_slot(v, "m").numpy()


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name, how):
    schedule = getattr(schedules, name)(*SCHEDULES[name])
    twin = HOW[how](schedule)
    assert twin.get_config() == schedule.get_config()
    assert [float(twin(step)) for step in range(9)] == [float(schedule(step)) for step in range(9)]
