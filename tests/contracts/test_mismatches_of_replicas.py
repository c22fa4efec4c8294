"""Replicas that call different things get one error, on all of them, and may go on from there."""

import numpy as np
import pytest

from distopt import IndexedSlices, Variable
from distopt.distribute import get_replica_context
from distopt.errors import ReplicaFailed, ReplicaMismatch
from distopt.optimizers import SGD, Adam


def ones(*shape):
    return np.ones(shape, "f4")


def pairs(*variables):
    return [(ones(*v.shape), v) for v in variables]


#: What the last replica does while the others make a step on v and w, and what the error says of it.
DEVIATIONS = {
    "a variable less": (lambda o, v, w: o.apply_gradients(pairs(v)), "on v:0 float32[3]; "),
    "a None gradient": (lambda o, v, w: o.apply_gradients([(None, v), *pairs(w)]), "on w:0 float32[2, 2]"),
    "a variable more": (
        lambda o, v, w: o.apply_gradients(pairs(v, w, Variable(1.0, name="x"))),
        "x:0 float32[]",
    ),
    "another order": (lambda o, v, w: o.apply_gradients(pairs(w, v)), "on w:0 float32[2, 2], v:0 float32[3]"),
    "another shape": (
        lambda o, v, w: o.apply_gradients(pairs(Variable(ones(4), name="v"), w)),
        "v:0 float32[4]",
    ),
    "another dtype": (
        lambda o, v, w: o.apply_gradients([(np.ones(3), Variable(np.ones(3), name="v")), *pairs(w)]),
        "v:0 float64[3]",
    ),
    "another optimizer": (lambda o, v, w: Adam().apply_gradients(pairs(v, w)), "apply_gradients of Adam"),
    "no aggregation": (
        lambda o, v, w: o.apply_gradients(pairs(v, w), experimental_aggregate_gradients=False),
        "apply_gradients of SGD",
    ),
    "all_reduce": (lambda o, v, w: get_replica_context().all_reduce("sum", ones(2)), "all_reduce('sum')"),
    "all_gather": (lambda o, v, w: get_replica_context().all_gather(ones(2), 0), "all_gather(axis=0)"),
    "broadcast": (lambda o, v, w: get_replica_context().broadcast(ones(2)), "broadcast(root=0)"),
    "merge_call": (lambda o, v, w: get_replica_context().merge_call(len), "merge_call(len)"),
}


@pytest.mark.parametrize("name", DEVIATIONS)
def test_one_error_on_all(replicas, name):
    if replicas.size == 1:
        return
    deviate, text = DEVIATIONS[name]
    last = replicas.size - 1

    def program():
        v, w = Variable(ones(3), name="v"), Variable(ones(2, 2), name="w")
        optimizer = SGD(0.5)
        optimizer.apply_gradients(pairs(v, w))
        before = v.numpy().tolist()
        usual = lambda o, v, w: o.apply_gradients(pairs(v, w))  # noqa: E731
        act = deviate if get_replica_context().replica_id_in_sync_group == last else usual
        with pytest.raises(ReplicaMismatch) as raised:
            act(optimizer, v, w)
        unchanged = v.numpy().tolist() == before
        optimizer.apply_gradients(pairs(v, w))  # the job is as good as before
        return str(raised.value), unchanged, int(optimizer.iterations), float(v[0])

    results = replicas.run(program)
    message = results[0][0]
    assert [r[0] for r in results] == [message] * replicas.size
    assert [r[1:] for r in results] == [(True, 2, 1.0 - replicas.size)] * replicas.size
    others = ", ".join(str(r) for r in range(last))
    good = f"  replica{'s' if last > 1 else ''} {others}: apply_gradients of SGD on v:0 float32[3], w:0"
    assert good in message
    line = next(line for line in message.splitlines() if line.startswith(f"  replica {last}: "))
    assert text in line
    assert "test_mismatches_of_replicas.py:" in line


def test_rows_against_an_array_in_a_plain_all_reduce(replicas):
    if replicas.size == 1:
        return

    def program():
        rows = get_replica_context().replica_id_in_sync_group == 0
        value = IndexedSlices(ones(2, 2), np.array([0, 1]), (2, 2)) if rows else ones(2, 2)
        with pytest.raises(ReplicaMismatch, match=r"replica 0: all_reduce\('sum'\) of rows of float32"):
            get_replica_context().all_reduce("sum", value)
        return True

    assert replicas.run(program) == [True] * replicas.size


def test_errors_on_several_replicas(replicas):
    """Each raises its own; those without one are told of the first."""

    def program():
        rank = get_replica_context().replica_id_in_sync_group
        v = Variable(ones(3))
        gradient = ones(3) if rank == 0 and replicas.size > 1 else ones(4 + rank)
        with pytest.raises((ValueError, ReplicaFailed)) as raised:
            SGD(1.0).apply_gradients([(gradient, v)])
        return type(raised.value).__name__, f"({5 if replicas.size > 1 else 4},)" in str(raised.value)

    results = replicas.run(program)
    assert [name for name, _ in results[1:]] == ["ValueError"] * (replicas.size - 1)
    assert results[0] == ("ReplicaFailed" if replicas.size > 1 else "ValueError", True)


def test_hundreds_of_steps_stay_together(replicas):
    def program():
        v, optimizer = Variable(ones(5), name="v"), SGD(1.0)
        for step in range(300):
            optimizer.apply_gradients([(np.full(5, 2.0**-10, "f4"), v)])
            if step % 7 == 0:
                get_replica_context().all_reduce("sum", v)
        return v.numpy().tolist()

    assert replicas.run(program) == [[1 - 300 * replicas.size / 1024] * 5] * replicas.size
