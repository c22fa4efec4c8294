"""Replicas that call different things: each gets one clear error, and none hangs."""

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profiles import examples

from distopt import IndexedSlices, Variable
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.errors import ReplicaFailed, ReplicaMismatch
from distopt.optimizers import SGD, Adam

#: What replicas that do as they should call, again and again.
SHAPES = {"a": (3,), "b": (2, 2), "c": ()}


class Replica:
    """One replica's program: some good steps, then perhaps a deviation."""

    def __init__(self):
        self.context = get_replica_context()
        self.rank = self.context.replica_id_in_sync_group
        self.variables = {name: Variable(np.ones(shape, "f4"), name=name) for name, shape in SHAPES.items()}
        self.optimizer = SGD(0.5, momentum=0.5)

    def pairs(self):
        return [(np.ones(v.shape, "f4"), v) for v in self.variables.values()]

    def step(self, pairs=None):
        self.optimizer.apply_gradients(self.pairs() if pairs is None else pairs)

    def reduce(self, value=None, op="sum"):
        self.context.all_reduce(op, np.ones((2, 3), "f4") if value is None else value)


def drop(replica):
    replica.step(replica.pairs()[:-1])


def none(replica):
    pairs = replica.pairs()
    replica.step([(None, pairs[0][1]), *pairs[1:]])


def extra(replica):
    replica.step([*replica.pairs(), (np.ones(2, "f4"), Variable(np.ones(2, "f4"), name="extra"))])


def order(replica):
    replica.step(replica.pairs()[::-1])


def renamed(replica):
    pairs = replica.pairs()
    replica.step([*pairs[:-1], (pairs[-1][0], Variable(1.0, name="other"))])


def reshaped(replica):
    pairs = replica.pairs()
    replica.step([(np.ones(4, "f4"), Variable(np.ones(4, "f4"), name="a")), *pairs[1:]])


def retyped(replica):
    pairs = replica.pairs()
    replica.step([(np.ones(3), Variable(np.ones(3), name="a")), *pairs[1:]])


def other_optimizer(replica):
    replica.optimizer = Adam(0.5)
    replica.step()


def other_name(replica):
    replica.optimizer = SGD(0.5, momentum=0.5, name="another")
    replica.step()


def other_rate(replica):
    replica.optimizer.learning_rate = 0.25
    replica.step()


def other_stage(replica):
    replica.optimizer.gradient_transformers.append(lambda pairs: pairs)
    replica.step()


def assigned(replica):
    replica.variables["b"].assign(np.full((2, 2), 7.0))
    replica.step()


def bad_shape(replica):
    replica.step([(np.ones(9, "f4"), replica.variables["a"])])


def bad_rows(replica):
    replica.step([(IndexedSlices(np.ones((1,), "f4"), np.array([5]), (3,)), replica.variables["a"])])


def raises(replica):
    raise LookupError("the program's own error")


def ends(replica):
    replica.ended = True


STEPS = [drop, none, extra, order, renamed, reshaped, retyped, other_optimizer, other_name, other_rate]
STEPS += [other_stage, assigned, bad_shape, bad_rows, raises, ends]
#: In place of a step: something else altogether.
CALLS = [
    lambda r: r.reduce(),
    lambda r: r.context.all_gather(np.ones(3), axis=0),
    lambda r: r.context.broadcast(np.ones(3)),
    lambda r: r.context.merge_call(lambda strategy: None),
]
#: In place of `reduce()`: a reduction of something else.
REDUCTIONS = [
    lambda r: r.reduce(np.ones((2, 4), "f4")),
    lambda r: r.reduce(np.ones((3, 2), "f4")),
    lambda r: r.reduce(np.ones((2, 3), "f8")),
    lambda r: r.reduce([np.ones((2, 3), "f4"), 1.0]),
    lambda r: r.reduce([]),
    lambda r: r.reduce(op="mean"),
    lambda r: r.reduce(None, op="max"),
    lambda r: r.reduce([None]),
    lambda r: r.reduce(IndexedSlices(np.ones((2, 3), "f4"), np.array([0, 1]), (2, 3))),
    lambda r: r.step(),
    lambda r: r.context.all_gather(np.ones((2, 3), "f4"), axis=0),
    raises,
    ends,
]


def play(size, culprit, before, deviation, usual):
    """Runs the replicas; the errors by replica, and the variables of those that stayed."""
    errors, values = {}, {}

    def program():
        replica = Replica()
        replica.step()
        replica.ended = False
        for _ in range(before):
            usual(replica)
        kept = {name: v.numpy().tolist() for name, v in replica.variables.items()}
        try:
            (deviation if replica.rank == culprit else usual)(replica)
            if not replica.ended:
                usual(replica)
        except Exception as error:
            errors[replica.rank] = error
            if replica.rank != culprit:
                values[replica.rank] = (
                    kept,
                    {name: v.numpy().tolist() for name, v in replica.variables.items()},
                )
            raise

    with pytest.raises((RuntimeError, ValueError, LookupError)) as raised:
        VirtualStrategy(size).run(program)
    return errors, values, raised.value


def judge(size, culprit, errors, values, first):
    others = {rank for rank in range(size) if rank != culprit}
    assert others <= set(errors), "a replica was not told"
    assert {type(errors[rank]) for rank in others} <= {ReplicaMismatch, ReplicaFailed}
    for before, after in values.values():
        assert after == before, "something was applied"
    if culprit in errors and isinstance(errors[culprit], ReplicaMismatch):
        assert {type(e) for e in errors.values()} == {ReplicaMismatch}
        texts = {str(e) for e in errors.values()}
        assert len(texts) == 1
        shown = re.findall(r"^  replicas? ([\d, ]+): (.+)$", texts.pop(), re.MULTILINE)
        named = sorted(int(n) for numbers, _ in shown for n in numbers.split(","))
        assert named == list(range(size))
        assert [numbers for numbers, _ in shown if str(culprit) in numbers.split(", ")] == [str(culprit)]
    elif culprit in errors:  # its own error comes out, the others carry its traceback
        assert first is errors[culprit]
        for rank in others:
            assert str(errors[culprit]) in str(errors[rank])
    else:
        assert all(f"replica {culprit} has ended" in str(errors[rank]) for rank in others)


programs = st.one_of(
    st.tuples(st.just("step"), st.sampled_from([*STEPS, *CALLS])),
    st.tuples(st.just("reduce"), st.sampled_from(REDUCTIONS)),
)


@settings(
    max_examples=examples(200), deadline=5000, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(size=st.integers(2, 5), where=st.integers(0, 4), before=st.integers(0, 3), program=programs)
def test_random_mismatches(size, where, before, program):
    kind, deviation = program
    usual = Replica.step if kind == "step" else Replica.reduce
    culprit = where % size
    judge(size, culprit, *play(size, culprit, before, deviation, usual))


@pytest.mark.parametrize("deviation", STEPS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("culprit", [0, 1])
def test_each_mismatch_of_steps(deviation, culprit):
    judge(2, culprit, *play(2, culprit, 1, deviation, Replica.step))


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_another_call_in_place_of_a_step(number):
    errors, values, first = play(3, 1, 0, CALLS[number], Replica.step)
    judge(3, 1, errors, values, first)
    assert "apply_gradients of SGD on a:0 float32[3], b:0 float32[2, 2], c:0 float32[]" in str(errors[0])
    assert "test_mismatches.py:" in str(errors[0])


@pytest.mark.parametrize("number", range(len(REDUCTIONS)))
def test_each_mismatch_of_reductions(number):
    judge(3, 2, *play(3, 2, 1, REDUCTIONS[number], Replica.reduce))
