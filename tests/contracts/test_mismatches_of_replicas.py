"""Replicas that call different things get one error, on all of them, and may go on from there."""

import numpy as np
import pytest

from distopt import IndexedSlices, Variable
from distopt.distribute import get_replica_context
from distopt.errors import ReplicaFailed, ReplicaMismatch
from distopt.optimizers import SGD, Adam, Optimizer, schedules

pytestmark = pytest.mark.tree


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
    "another aggregator": (
        lambda o, v, w: SGD(0.5, gradient_aggregator="mean").apply_gradients(pairs(v, w)),
        "apply_gradients of SGD (mean) on",
    ),
    "a clip": (
        lambda o, v, w: SGD(0.5, clipvalue=0.25).apply_gradients(pairs(v, w)),
        "apply_gradients of SGD (clipvalue 0.25) on",
    ),
    "a transformer": (
        lambda o, v, w: SGD(0.5, gradient_transformers=[list]).apply_gradients(pairs(v, w)),
        "apply_gradients of SGD (builtins.list) on",
    ),
    "a new variable of an old name": (
        lambda o, v, w: o.apply_gradients(pairs(Variable(ones(3), name="v"), w)),
        "first met here: v:0",
    ),
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


@pytest.mark.parametrize("memory", ["shared", "private"])
def test_the_weights_come_in_one_order_after_a_first_step_that_was_refused(replicas, memory, monkeypatch):
    monkeypatch.setenv("DISTOPT_MEMORY", memory)
    if replicas.size == 1:
        pytest.skip("nobody to differ from")

    def program():
        last = get_replica_context().replica_id_in_sync_group == replicas.size - 1
        v, w, x = (Variable(ones(n), name=f"v{n}") for n in (2, 3, 4))
        optimizer = Adam()
        with pytest.raises(ReplicaMismatch):
            optimizer.apply_gradients(pairs(v, x) if last else pairs(v, w, x))
        refused = [weight.name for weight in optimizer.weights]
        optimizer.apply_gradients(pairs(v, w, x))
        return refused, [weight.shape for weight in optimizer.weights]

    assert replicas.run(program) == [(["Adam/iter:0"], [(), *[(2,), (3,), (4,)] * 2])] * replicas.size


def test_a_new_optimizer_on_one_replica(replicas):
    """It would be met by old ones: the number of its step is in the header."""
    if replicas.size == 1:
        return

    def program():
        v, optimizer = Variable(ones(3), name="v"), SGD(0.5)
        optimizer.apply_gradients(pairs(v))
        own = get_replica_context().replica_id_in_sync_group == 1
        with pytest.raises(ReplicaMismatch, match="the same call, but"):
            (SGD(0.5) if own else optimizer).apply_gradients(pairs(v))
        optimizer.apply_gradients(pairs(v))
        return float(v[0])

    assert replicas.run(program) == [1.0 - replicas.size] * replicas.size


class ByHand(Optimizer):
    """An update that is Python code."""

    def __init__(self, learning_rate):
        super().__init__("ByHand")
        self._set_hyper("learning_rate", learning_rate)

    def _resource_apply_dense(self, grad, handle, apply_state=None):
        handle.assign_sub(grad * apply_state[handle.device, handle.dtype]["lr_t"])

    def get_config(self):
        return {**super().get_config(), "learning_rate": self._serialize_hyperparameter("learning_rate")}


class Uneven(schedules.LearningRateSchedule):
    """Another rate on the last replica, from the second step on."""

    def __call__(self, step):
        context = get_replica_context()
        last = context.replica_id_in_sync_group == context.num_replicas_in_sync - 1
        return 0.5 if last and int(step) else 0.25

    def get_config(self):
        return {}


@pytest.mark.parametrize("scheduled", [False, True])
def test_a_rate_of_one_replica_where_the_update_is_python_code(replicas, scheduled):
    if replicas.size == 1:
        return
    last = replicas.size - 1

    def program():
        v, optimizer = Variable(ones(3), name="v"), ByHand(Uneven() if scheduled else 0.25)
        optimizer.apply_gradients(pairs(v))
        if get_replica_context().replica_id_in_sync_group == last and not scheduled:
            optimizer.learning_rate = 0.5
        with pytest.raises(ReplicaMismatch, match=rf"\n  replica {last}: .* lr_t=0\.5 "):
            optimizer.apply_gradients(pairs(v))
        return float(v[0])

    assert replicas.run(program) == [1 - 0.25 * replicas.size] * replicas.size


def forgetful(grads_and_vars):
    """An aggregator that hands back each replica's own gradients."""
    return list(grads_and_vars)


def own_scale(grads_and_vars):
    """A transformer that does another thing on each replica."""
    return [((1 + get_replica_context().replica_id_in_sync_group) * g, v) for g, v in grads_and_vars]


STAGES = {
    "aggregator": {"gradient_aggregator": forgetful},
    "transformer": {"gradient_transformers": [own_scale]},
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("sparse", [False, True])
def test_stages_that_leave_gradients_different(replicas, stage, sparse):
    """Where memory is shared each shard would be updated with its owner's."""
    if replicas.size == 1:
        return

    def program():
        rank = get_replica_context().replica_id_in_sync_group
        gradient = np.full((4, 2), 1.0 + rank, "f4")
        if sparse:
            gradient = IndexedSlices(gradient[:2], np.array([0, 3]), (4, 2))
        v, optimizer = Variable(ones(4, 2), name="v"), SGD(0.5, **STAGES[stage])
        with pytest.raises(ReplicaMismatch, match=r"the gradient of 'v:0' .* Nothing was applied"):
            optimizer.apply_gradients([(gradient, v)])
        return v.numpy().tolist(), int(optimizer.iterations)

    assert replicas.run(program) == [([[1.0, 1.0]] * 4, 0)] * replicas.size


UNPLACED = "\nvariables: find their place at the first step\n"


def test_describe_may_be_called_by_one_replica(replicas):
    def program():
        context = get_replica_context()
        v, optimizer = Variable(ones(3)), SGD(0.5)
        before = optimizer.describe() if context.replica_id_in_sync_group == 0 else ""
        total = float(context.all_reduce("sum", 1.0))
        optimizer.apply_gradients(pairs(v))
        after = optimizer.describe() if context.replica_id_in_sync_group == 0 else ""
        return before, after, total

    results = replicas.run(program)
    assert [r[2] for r in results] == [float(replicas.size)] * replicas.size
    before, after, _ = results[0]
    if replicas.size > 1:
        assert after.splitlines()[1].startswith(
            ("variables: one copy for ", "variables: a copy of its own in")
        )
        assert after.splitlines()[2].startswith("watch: headers at every call; audit every 1000 steps; ")
        # Replicas that have made a step before, as under MPI, know already where variables live.
        assert before in (after, before.splitlines()[0] + UNPLACED + after.splitlines()[2])
    assert before.splitlines()[0] == after.splitlines()[0]


def test_an_all_gather_says_which_lengths_may_differ(replicas):
    if replicas.size == 1:
        return

    def program():
        context = get_replica_context()
        rank = context.replica_id_in_sync_group
        joined = context.all_gather(ones(2, 1 + rank, 3), axis=-2)
        with pytest.raises(ReplicaMismatch, match=r"replica 0: all_gather\(axis=1\) of float32\[1, any\] "):
            context.all_gather(ones(1 + rank, 7), axis=1)
        return joined.shape

    length = replicas.size * (replicas.size + 1) // 2
    assert replicas.run(program) == [(2, length, 3)] * replicas.size


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
