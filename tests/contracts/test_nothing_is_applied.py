"""A step happens whole or not at all, on all replicas alike."""

import numpy as np
import programs
import pytest

from distopt import IndexedSlices, Variable
from distopt.distribute import get_replica_context
from distopt.errors import ReplicaFailed, ReplicaMismatch
from distopt.optimizers import SGD, Adam

rank = programs.rank


def ones(*shape, dtype="f4"):
    return np.ones(shape, dtype)


def rows(*indices, width=2):
    return IndexedSlices(ones(len(indices), width), np.array(indices), (4, width))


#: A gradient for the second variable, [4, 2], that is wrong on one replica, and what is raised there.
BAD = {
    "shape": (lambda: ones(2, 4), ValueError, "gradients are not broadcast"),
    "dtype": (lambda: ones(4, 2, dtype="f8"), TypeError, "cast it with"),
    "index": (lambda: rows(0, 4), ValueError, "index 4, out of range"),
    "negative index": (lambda: rows(-1), ValueError, "index -1, out of range"),
    "row shape": (lambda: rows(1, width=3), ValueError, "one row of shape"),
    "index dtype": (
        lambda: IndexedSlices(ones(1, 2), np.array([0.5]), (4, 2)),
        TypeError,
        "must be integers",
    ),
}
#: What is done in place of the step by one replica, and what is raised there.
PAIRS = {
    "no pairs": (lambda v, w: 5, TypeError, "pairs"),
    "three things": (lambda v, w: [(ones(2), v, 1)], ValueError, "3 items"),
    "no variable": (lambda v, w: [(ones(2), ones(2))], TypeError, "instead of a variable"),
    "all None": (lambda v, w: [(None, v), (None, w)], ValueError, "No gradients provided"),
}
MAKERS = {
    "one pass": lambda: Adam(0.1),
    "momentum": lambda: SGD(0.1, momentum=0.9, global_clipnorm=1.0),
    "mean": lambda: SGD(0.1, gradient_aggregator="mean"),
    "stages": lambda: Adam(0.1, gradient_transformers=[lambda pairs: pairs]),
    "NumPy": lambda: programs.Momentum(0.1),
}


def attempt(step, own_error, text):
    """What a replica learns of the step: its own error, or that another one failed."""
    with pytest.raises((own_error, ReplicaFailed)) as raised:
        step()
    assert text in str(raised.value)
    return type(raised.value).__name__


def check_names(replicas, names, own_error, culprit):
    want = ["ReplicaFailed"] * replicas.size
    want[culprit] = own_error.__name__
    assert names == want


def prepared(make):
    """Variables and an optimizer after one good step."""
    v, w = Variable(ones(2), name="v"), Variable(ones(4, 2), name="w")
    optimizer = MAKERS[make]()
    optimizer.apply_gradients([(ones(2), v), (ones(4, 2), w)])
    return v, w, optimizer


def refused(replicas, make, pairs, own_error, text, culprit):
    """One replica's step is wrong: nothing changes anywhere, and the next good step goes on."""

    def program():
        v, w, optimizer = prepared(make)
        before = programs.state(optimizer, [v, w])
        good = [(ones(2), v), (ones(4, 2), w)]
        mine = pairs(v, w) if rank() == culprit else good
        name = attempt(lambda: optimizer.apply_gradients(mine), own_error, text)
        unchanged = programs.same_bits(before, programs.state(optimizer, [v, w]))
        optimizer.apply_gradients(good)
        moved = not programs.same_bits(before[0], programs.state(optimizer, [v, w])[0])
        return name, unchanged, moved, int(optimizer.iterations), programs.fingerprint(optimizer, [v, w])

    results = replicas.run(program)
    check_names(replicas, [r[0] for r in results], own_error, culprit)
    assert [r[1:4] for r in results] == [(True, True, 2)] * replicas.size
    assert len({r[4] for r in results}) == 1


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_gradient_on_one_replica(replicas, bad, make):
    gradient, own_error, text = BAD[bad]
    refused(replicas, make, lambda v, w: [(ones(2), v), (gradient(), w)], own_error, text, replicas.size - 1)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("bad", PAIRS)
def test_bad_pairs_on_one_replica(replicas, bad, make):
    pairs, own_error, text = PAIRS[bad]
    refused(replicas, make, pairs, own_error, text, 0)


@pytest.mark.parametrize("make", ["one pass", "stages", "NumPy"])
def test_a_first_step_that_is_wrong_on_one_replica_leaves_no_slots(replicas, make):
    """Where some had made slots and others not, the weights would come in another order afterwards."""

    def program():
        v, w = Variable(ones(2), name="v"), Variable(ones(4, 2), name="w")
        optimizer = MAKERS[make]()
        wrong = [(ones(3), v)] if rank() == replicas.size - 1 else [(ones(2), v)]
        attempt(lambda: optimizer.apply_gradients(wrong), ValueError, "gradients are not broadcast")
        optimizer.apply_gradients([(ones(4, 2), w)])
        optimizer.apply_gradients([(ones(2), v)])
        return [weight.name for weight in optimizer.weights], programs.fingerprint(optimizer, [v, w])

    results = replicas.run(program)
    assert len({tuple(names) for names, _ in results}) == 1
    assert len({fingerprint for _, fingerprint in results}) == 1
    names = results[0][0]
    first, last = (next(i for i, name in enumerate(names) if f"/{v}/" in name) for v in "wv")
    assert first < last


@pytest.mark.parametrize("stage", ["gradient_aggregator", "gradient_transformers"])
def test_a_plugin_that_raises_on_one_replica(replicas, stage):
    culprit = replicas.size // 2

    def plugin(pairs):
        if failing and rank() == culprit:
            raise LookupError("the plugin's own error")
        return pairs

    failing = []

    def program():
        v = Variable(ones(2))
        optimizer = SGD(1.0, **{stage: [plugin] if stage.endswith("s") else plugin})
        optimizer.apply_gradients([(ones(2), v)])
        before = v.numpy().tolist()
        get_replica_context().all_reduce("sum", 0)  # all have made their first step
        failing.append(1)
        name = attempt(lambda: optimizer.apply_gradients([(ones(2), v)]), LookupError, "plugin's own error")
        get_replica_context().all_reduce("sum", 0)
        return name, v.numpy().tolist() == before, int(optimizer.iterations)

    results = replicas.run(program)
    check_names(replicas, [r[0] for r in results], LookupError, culprit)
    assert [r[1:] for r in results] == [(True, 1)] * replicas.size


def test_a_callable_hyperparameter_that_raises_on_one_replica(replicas):
    def program():
        def rate():
            if rank() == 0:
                raise ArithmeticError("no rate today")
            return 0.5

        v, optimizer = Variable(ones(2)), SGD(rate)
        name = attempt(lambda: optimizer.apply_gradients([(ones(2), v)]), ArithmeticError, "no rate today")
        return name, v.numpy().tolist(), int(optimizer.iterations)

    results = replicas.run(program)
    check_names(replicas, [r[0] for r in results], ArithmeticError, 0)
    assert [r[1:] for r in results] == [([1.0, 1.0], 0)] * replicas.size


def test_a_count_of_examples_that_is_wrong_on_one_replica(replicas):
    from distopt.aggregators import WeightedMean

    def program():
        v = Variable(ones(2))
        optimizer = SGD(1.0, gradient_aggregator=WeightedMean(-1 if rank() == 0 else 2))
        name = attempt(
            lambda: optimizer.apply_gradients([(ones(2), v)]), ValueError, "examples must be a count"
        )
        return name, v.numpy().tolist(), int(optimizer.iterations)

    results = replicas.run(program)
    check_names(replicas, [r[0] for r in results], ValueError, 0)
    assert [r[1:] for r in results] == [([1.0, 1.0], 0)] * replicas.size


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_gradient_without_aggregation(replicas, bad):
    gradient, own_error, text = BAD[bad]

    def program():
        v, optimizer = Variable(ones(4, 2)), SGD(1.0)
        mine = gradient() if rank() == 0 else ones(4, 2)

        def step():
            optimizer.apply_gradients([(mine, v)], experimental_aggregate_gradients=False)

        return attempt(step, own_error, text), float(v.numpy().min()), int(optimizer.iterations)

    results = replicas.run(program)
    check_names(replicas, [r[0] for r in results], own_error, 0)
    assert [r[1:] for r in results] == [(1.0, 0)] * replicas.size


#: What an aggregator must not return.
WRONG = {
    "None": (lambda pairs: None, TypeError),
    "no pairs": (lambda pairs: [g for g, _ in pairs], TypeError),
    "one lost": (lambda pairs: list(pairs)[:-1], ValueError),
    "one twice": (lambda pairs: [*pairs, next(iter(pairs))], ValueError),
    "another shape": (lambda pairs: [(np.ravel(g)[:1], v) for g, v in pairs], ValueError),
    "another dtype": (lambda pairs: [(np.asarray(g, "f8"), v) for g, v in pairs], TypeError),
}


@pytest.mark.parametrize("name", ["SGD", "Momentum"])
@pytest.mark.parametrize("wrong", WRONG)
def test_what_an_aggregator_must_not_return(replicas, wrong, name):
    aggregator, own_error = WRONG[wrong]

    def program():
        v, w = Variable(ones(2), name="v"), Variable(ones(4, 2), name="w")
        make = programs.Momentum if name == "Momentum" else SGD
        optimizer = make(1.0, gradient_aggregator=aggregator)
        with pytest.raises((own_error, ReplicaFailed)):
            optimizer.apply_gradients([(ones(2), v), (ones(4, 2), w)])
        return v.numpy().tolist(), float(w.numpy().min()), int(optimizer.iterations)

    assert replicas.run(program) == [([1.0, 1.0], 1.0, 0)] * replicas.size


def test_an_update_that_raises_is_taken_back_everywhere(replicas):
    """The variables have different owners: those that went well are put back as well."""

    class Fragile(programs.Momentum):
        def _resource_apply_dense(self, grad, var, apply_state=None):
            super()._resource_apply_dense(grad, var, apply_state)
            if float(np.max(grad)) > 100:
                raise ArithmeticError("too big")

    def program():
        variables = [Variable(ones(3), name=f"v{i}") for i in range(5)]
        optimizer = Fragile(0.5)
        good = [(ones(3), v) for v in variables]
        optimizer.apply_gradients(good)
        before = programs.state(optimizer, variables)
        bad = [(ones(3) * (1000 if i == 3 else 1), v) for i, v in enumerate(variables)]
        with pytest.raises((ArithmeticError, RuntimeError), match="too big"):
            optimizer.apply_gradients(bad)
        get_replica_context().all_reduce("sum", 0)
        unchanged = programs.same_bits(before, programs.state(optimizer, variables))
        optimizer.apply_gradients(good)
        return unchanged, int(optimizer.iterations), programs.fingerprint(optimizer, variables)

    results = replicas.run(program)
    assert [r[:2] for r in results] == [(True, 2)] * replicas.size
    assert len({r[2] for r in results}) == 1


@pytest.fixture(params=["shared", "private"])
def memory(request, monkeypatch):
    """Replicas with one copy and with a copy each, as those of several nodes have; MPI keeps to its own."""
    monkeypatch.setenv("DISTOPT_MEMORY", request.param)


def failing_on_the_last(make, variables, fail):
    """One step in which the last replica calls ``fail`` for its own part; what all learn of it."""
    optimizer = make()
    optimizer.apply_gradients([(ones(3), v) for v in variables])
    before = programs.state(optimizer, variables)
    if rank() == programs.size() - 1:
        fail(optimizer)
    with pytest.raises((ArithmeticError, RuntimeError), match="only here"):
        optimizer.apply_gradients([(ones(3), v) for v in variables])
    vars(optimizer).pop("_resource_apply_dense", None)
    return optimizer, programs.same_bits(before, programs.state(optimizer, variables))


def only_here(*args, **kwargs):
    raise ArithmeticError("only here")


def test_an_update_that_raises_on_one_replica_is_taken_back_on_all(replicas, memory):
    """Also where the others have updated copies of their own and seen no error."""

    def program():
        variables = [Variable(ones(3), name=f"v{i}") for i in range(5)]

        def fail(optimizer):
            optimizer._resource_apply_dense = only_here

        optimizer, unchanged = failing_on_the_last(programs.Momentum, variables, fail)
        optimizer.apply_gradients([(ones(3), v) for v in variables])
        return unchanged, int(optimizer.iterations), programs.fingerprint(optimizer, variables)

    results = replicas.run(program)
    assert [r[:2] for r in results] == [(True, 2)] * replicas.size
    assert len({r[2] for r in results}) == 1


@pytest.mark.parametrize("make", ["one pass", "stages", "NumPy"])
def test_values_assigned_differently_are_an_error_that_names_the_variable(replicas, make):
    if replicas.size == 1:
        return

    def program():
        v, w, optimizer = prepared(make)
        w.assign(np.full((4, 2), 1.0 + rank()))
        with pytest.raises(ReplicaMismatch, match=r"w:0"):
            optimizer.apply_gradients([(ones(2), v), (ones(4, 2), w)])
        return int(optimizer.iterations), float(w.numpy().min())

    assert replicas.run(program) == [(1, 1.0 + r) for r in range(replicas.size)]


@pytest.mark.parametrize("make", ["one pass", "stages", "NumPy"])
def test_values_swapped_between_two_variables_are_an_error(replicas, make):
    """Hashes that are combined carelessly would be equal here."""
    if replicas.size == 1:
        return

    def program():
        a, b = Variable([0.0], name="a"), Variable([0.0], name="b")
        optimizer = MAKERS[make]()
        pairs = [(ones(1), a), (ones(1), b)]
        optimizer.apply_gradients(pairs)
        a.assign([5.0 if rank() == 0 else 6.0])
        b.assign([6.0 if rank() == 0 else 5.0])
        with pytest.raises(ReplicaMismatch):
            optimizer.apply_gradients(pairs)
        return int(optimizer.iterations)

    assert replicas.run(program) == [1] * replicas.size


@pytest.mark.parametrize("change", ["learning_rate", "momentum", "assign", "callable"])
def test_a_hyperparameter_that_differs_is_an_error_that_names_it(replicas, change):
    if replicas.size == 1:
        return

    def program():
        later = []
        rate = lambda: 0.25 if later and rank() == 1 else 0.5  # noqa: E731
        v, optimizer = Variable(ones(2)), SGD(rate if change == "callable" else 0.5, momentum=0.5)
        optimizer.apply_gradients([(ones(2), v)])
        before = v.numpy().tolist()
        later.append(1)
        if rank() == 1 and change != "callable":
            if change == "assign":
                optimizer.learning_rate.assign(0.25)
            else:
                setattr(optimizer, change, 0.25)
        with pytest.raises(ReplicaMismatch, match=r"lr_t=0\.25|momentum=0\.25"):
            optimizer.apply_gradients([(ones(2), v)])
        return v.numpy().tolist() == before, int(optimizer.iterations)

    assert replicas.run(program) == [(True, 1)] * replicas.size
