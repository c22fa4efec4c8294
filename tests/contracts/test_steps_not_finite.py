"""NaN and infinity in one replica's gradient: every policy, every optimizer, every way of a step."""

import logging
from functools import partial

import numpy as np
import programs
import pytest

from distopt import IndexedSlices, Variable
from distopt.distribute import get_replica_context
from distopt.optimizers import SGD, Adam

rank = programs.rank


def gradients(bad=(), sparse=False, dtype="f4"):
    """One for a variable ``[3]``, one for a variable ``[4, 2]``, with bad values in the second one."""
    second = np.arange(8, dtype=dtype).reshape(4, 2) / 8 + rank()
    for place, value in bad:
        second[place] = value
    if sparse:
        second = IndexedSlices(second[[2, 1]], np.array([2, 1]), (4, 2))
    return [np.ones(3, dtype), second]


def prepared(make, dtype="f4"):
    """An optimizer and variables after one good step."""
    variables = [Variable(np.ones(3, dtype), name="v"), Variable(np.ones((4, 2), dtype), name="w")]
    optimizer = make()
    optimizer.apply_gradients(zip(gradients(dtype=dtype), variables, strict=True))
    return optimizer, variables


def step(optimizer, variables, grads, **kwargs):
    return optimizer.apply_gradients(zip(grads, variables, strict=True), **kwargs)


#: Only the last replica's gradient is bad.
BAD = [((1, 1), np.nan), ((2, 0), -np.inf)]


def bad_on_the_last(replicas, **kwargs):
    return gradients(BAD if rank() == replicas.size - 1 else (), **kwargs)


def summed(pairs):
    """An aggregator of the user's own."""
    context = get_replica_context()
    return [(context.all_reduce("sum", g), v) for g, v in pairs]


MAKERS = {
    "user's update": lambda **k: programs.Momentum(0.1, **k),
    "user's aggregator": lambda **k: SGD(0.1, gradient_aggregator=summed, **k),
    "transformer": lambda **k: SGD(0.1, gradient_transformers=[lambda pairs: pairs], **k),
    "norm": lambda **k: Adam(0.1, global_clipnorm=1.0, **k),
    "mean": lambda **k: SGD(0.1, gradient_aggregator="mean", **k),
    **{name: partial(programs.make, name) for name in programs.OPTIMIZERS},
}
SLOW = set(programs.OPTIMIZERS) - set(programs.QUICK)
every_way = pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name, make in MAKERS.items()
    ],
)


@every_way
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_raise_names_replica_variable_and_place_and_changes_nothing(replicas, make, sparse):
    def program():
        optimizer, variables = prepared(lambda: make(on_nonfinite="raise"))
        before = programs.state(optimizer, variables)
        with pytest.raises(FloatingPointError) as raised:
            step(optimizer, variables, bad_on_the_last(replicas, sparse=sparse))
        assert programs.same_bits(before, programs.state(optimizer, variables))
        step(optimizer, variables, gradients(sparse=sparse))  # and on it goes
        return str(raised.value), int(optimizer.iterations)

    results = replicas.run(program)
    assert {r[1] for r in results} == {2}
    (text,) = {r[0] for r in results}
    where = "-inf at [2, 0] (2 of 4" if sparse else "nan at [1, 1] (2 of 8"
    assert f"replica {replicas.size - 1}: the gradient of 'w" in text
    assert where in text
    assert "nothing was applied" in text


@every_way
def test_skip_leaves_the_step_out_everywhere(replicas, make):
    def program():
        optimizer, variables = prepared(lambda: make(on_nonfinite="skip"))
        before = programs.state(optimizer, variables)
        result = step(optimizer, variables, bad_on_the_last(replicas))
        assert programs.same_bits(before, programs.state(optimizer, variables))
        assert int(result) == 1
        step(optimizer, variables, gradients())
        return programs.fingerprint(optimizer, variables)

    def undisturbed():
        optimizer, variables = prepared(make)
        step(optimizer, variables, gradients())
        return programs.fingerprint(optimizer, variables)

    assert replicas.run(program) == replicas.run(undisturbed)


@every_way
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_zero_is_a_step_with_zeros_in_their_place(replicas, make, sparse):
    def train(make, bad):
        optimizer, variables = prepared(make)
        last = rank() == replicas.size - 1
        grads = gradients(bad if last else (), sparse=sparse)
        kept = [np.array(g.values if isinstance(g, IndexedSlices) else g) for g in grads]
        step(optimizer, variables, grads)
        for g, k in zip(grads, kept, strict=True):  # the user's gradients stay as they were
            np.testing.assert_array_equal(g.values if isinstance(g, IndexedSlices) else g, k)
        return programs.fingerprint(optimizer, variables), int(optimizer.iterations)

    zeros = [(place, 0.0) for place, _ in BAD]
    got = replicas.run(lambda: train(lambda: make(on_nonfinite="zero"), BAD))
    assert got == replicas.run(lambda: train(make, zeros))
    assert {r[1] for r in got} == {2}


@pytest.mark.parametrize("policy", ["propagate", "raise", "skip", "zero"])
def test_finite_gradients_make_the_same_step_under_every_policy(replicas, policy):
    def train(**kwargs):
        optimizer, variables = prepared(lambda: Adam(0.1, **kwargs))
        for _ in range(3):
            step(optimizer, variables, gradients())
        return programs.fingerprint(optimizer, variables)

    assert replicas.run(lambda: train(on_nonfinite=policy)) == replicas.run(train)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_every_dtype(replicas, dtype, value):
    def program():
        optimizer, variables = prepared(lambda: SGD(0.1, on_nonfinite="skip"), dtype)
        bad = [((3, 1), value)] if rank() == 0 else ()
        largest = [((0, 0), np.finfo(dtype).max), ((0, 1), -np.finfo(dtype).tiny)] if rank() == 0 else ()
        skipped = step(optimizer, variables, gradients(bad, dtype=dtype))
        with np.errstate(over="ignore"):
            made = step(optimizer, variables, gradients(largest, dtype=dtype))
        return int(skipped), int(made)

    assert replicas.run(program) == [(1, 2)] * replicas.size


def test_gradients_that_are_aggregated_already(replicas):
    def program():
        optimizer, variables = prepared(lambda: SGD(0.1, on_nonfinite="skip"))
        result = step(optimizer, variables, bad_on_the_last(replicas), experimental_aggregate_gradients=False)
        return int(result), programs.fingerprint(optimizer, variables)

    results = replicas.run(program)
    assert [r[0] for r in results] == [1] * replicas.size
    assert len({r[1] for r in results}) == 1


def test_who_has_them_says_so_once_a_step(replicas, caplog):
    def program():
        optimizer, variables = prepared(lambda: SGD(0.1, on_nonfinite="skip"))
        step(optimizer, variables, bad_on_the_last(replicas))

    with caplog.at_level(logging.WARNING, "distopt"):
        replicas.run(program)
    said = [r.getMessage() for r in caplog.records if "step skipped" in r.getMessage()]
    last = replicas.kind == "virtual" or rank() == replicas.size - 1
    assert len(said) == last
    assert all(f"replica {replicas.size - 1}" in text for text in said)
