"""A constraint that raises comes after updates, and the step is taken back whole, on all replicas."""

import numpy as np
import programs
import pytest

from distopt import IndexedSlices, Variable
from distopt.distribute import get_replica_context
from distopt.errors import ReplicaMismatch
from distopt.optimizers import SGD, Adam, Nadam, RMSprop

MAKERS = {
    "one pass": lambda: Adam(0.1),
    "clip": lambda: SGD(0.1, momentum=0.9, clipnorm=1.0),
    "global clip": lambda: RMSprop(0.1, momentum=0.5, centered=True, global_clipnorm=1.0),
    "mean": lambda: Nadam(0.1, gradient_aggregator="mean"),
    "stages": lambda: Adam(0.1, amsgrad=True, gradient_transformers=[lambda pairs: pairs]),
    "averages": lambda: Adam(0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2),
    "NumPy": lambda: programs.Momentum(0.1),
}
rank = programs.rank


@pytest.fixture(params=["shared", "private"])
def memory(request, monkeypatch, replicas):
    """Replicas with one copy and with a copy each, as those of several nodes have; MPI keeps to its own."""
    if replicas.kind == "mpi" and request.param == "private":
        pytest.skip("the job's memory is chosen when it starts")
    monkeypatch.setenv("DISTOPT_MEMORY", request.param)


class Fragile:
    """A constraint that can be made to raise: on one replica, or on all."""

    def __init__(self):
        self.broken = False

    def __call__(self, w):
        if self.broken:
            raise ArithmeticError("the constraint's own error")
        return np.maximum(w, -1)


def gradients(variables, step):
    generator = np.random.default_rng([step, rank()])
    return [generator.normal(size=v.shape).astype(v.dtype) for v in variables]


def several(constraint):
    """Variables of two sizes of shards and two dtypes, of which some have the constraint."""
    free = [("f4", (3,)), ("f8", (5, 2)), ("f4", (4, 2))]
    bound = [("f4", (70_000,)), ("f4", ()), ("f8", (7,)), ("f4", (2,)), ("f4", (9,))]  # each replica has one
    return [
        *(Variable(np.ones(shape, dtype), name=f"v{i}") for i, (dtype, shape) in enumerate(free)),
        *(Variable(np.ones(s, d), name=f"w{i}", constraint=constraint) for i, (d, s) in enumerate(bound)),
    ]


def taken_back(make, apply, where):
    """Good, broken, good: whether the broken step left every bit, and the fingerprint at the end."""
    constraint = Fragile()
    variables, optimizer = several(constraint), make()
    if optimizer.global_clipnorm is not None:  # is of one dtype
        variables = [v for v in variables if v.dtype == np.float32]
    apply(optimizer, variables, 0)
    before = programs.state(optimizer, variables)
    constraint.broken = where(rank(), programs.size())
    with pytest.raises((ArithmeticError, RuntimeError), match="the constraint's own error"):
        apply(optimizer, variables, 1)
    get_replica_context().all_reduce("sum", 0)  # the replicas are in step
    constraint.broken = False
    unchanged = programs.same_bits(before, programs.state(optimizer, variables))
    apply(optimizer, variables, 2)
    return unchanged, int(optimizer.iterations), programs.fingerprint(optimizer, variables)


def dense(optimizer, variables, step):
    optimizer.apply_gradients(list(zip(gradients(variables, step), variables)))


def sparse_as_well(optimizer, variables, step):
    rows = IndexedSlices(np.ones((2, 2), "f4"), np.array([3, rank() % 2]), (4, 2))
    grads = [rows if v.shape == (4, 2) else g for g, v in zip(gradients(variables, step), variables)]
    optimizer.apply_gradients(list(zip(grads, variables)))


def twice(optimizer, variables, step):
    """Every variable is updated twice in the step, one after the other."""
    dense(optimizer, [*variables, *variables[::-1]], step)


def not_aggregated(optimizer, variables, step):
    pairs = list(zip(gradients(variables, step), variables))
    optimizer.apply_gradients(pairs, experimental_aggregate_gradients=False)


WHERE = {"the last": lambda rank, size: rank == size - 1, "all": lambda rank, size: True}
CASES = [(make, dense) for make in MAKERS] + [
    ("one pass", sparse_as_well),
    ("stages", sparse_as_well),
    ("one pass", twice),
    ("stages", twice),
]


@pytest.mark.parametrize("where", ["the last", pytest.param("all", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("make", "apply"), CASES)
def test_the_step_is_taken_back_on_all_replicas(replicas, memory, make, apply, where):
    results = replicas.run(lambda: taken_back(MAKERS[make], apply, WHERE[where]))
    assert [r[:2] for r in results] == [(True, 2)] * replicas.size
    assert len({r[2] for r in results}) == 1


@pytest.mark.parametrize("make", ["one pass", "NumPy"])
def test_the_step_is_taken_back_where_each_replica_applies_its_own_gradients(replicas, make):
    results = replicas.run(lambda: taken_back(MAKERS[make], not_aggregated, WHERE["the last"]))
    assert [r[:2] for r in results] == [(True, 2)] * replicas.size


@pytest.mark.parametrize("make", MAKERS)
def test_what_a_taken_back_step_left_does_not_show_later(replicas, make):
    """The steps before and after have the bits that they have without it."""

    def program(steps):
        variables, optimizer = several(Fragile()), MAKERS[make]()
        if optimizer.global_clipnorm is not None:
            variables = [v for v in variables if v.dtype == np.float32]
        for step in steps:
            dense(optimizer, variables, step)
        return programs.fingerprint(optimizer, variables)

    def compare():
        return taken_back(MAKERS[make], dense, WHERE["the last"])[2] == program([0, 2])

    assert replicas.run(compare) == [True] * replicas.size


def test_a_constraint_that_returns_another_shape_is_taken_back_too(replicas):
    def program():
        v = Variable([1.0, 2.0], name="v")
        w = Variable([1.0, 2.0], name="w", constraint=lambda w: np.asarray(w)[:1])
        optimizer = Adam(0.1)
        with pytest.raises((ValueError, RuntimeError), match="got a value of shape"):
            optimizer.apply_gradients([(np.ones(2, "f4"), v), (np.ones(2, "f4"), w)])
        slots = [float(np.abs(a).max()) for a in optimizer.get_weights()]
        return v.numpy().tolist(), w.numpy().tolist(), slots

    assert replicas.run(program) == [([1.0, 2.0], [1.0, 2.0], [0.0] * 5)] * replicas.size


def test_a_constraint_on_one_replica_only_is_an_error_that_says_so(replicas):
    if replicas.size == 1:
        return

    def program():
        v = Variable([1.0], name="v", constraint=np.abs if rank() == 0 else None)
        with pytest.raises(ReplicaMismatch, match=r"v:0 float32\[1\] with a constraint"):
            SGD(0.1).apply_gradients([(np.ones(1, "f4"), v)])
        return v.numpy().tolist()

    assert replicas.run(program) == [[1.0]] * replicas.size
