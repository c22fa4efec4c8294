"""What replicas may ask of their context: all_reduce, all_gather, broadcast, merge_call."""

import collections
import hashlib
import itertools
import sys

import numpy as np
import programs
import pytest

from distopt import IndexedSlices, Tensor, Variable, distribute
from distopt.collectives import NodeAllReduce
from distopt.distribute import ReduceOp, get_replica_context
from distopt.errors import ReplicaFailed

Pair = collections.namedtuple("Pair", "left right")


def rank():
    return programs.rank()


def numbers(n):
    return list(range(1, n + 1))


THEORY = {"sum": sum, "mean": lambda xs: sum(xs) / len(xs), "min": min, "max": max}


@pytest.mark.tree
@pytest.mark.parametrize("op", THEORY)
@pytest.mark.parametrize("spell", [str.lower, str.upper, str.title, lambda op: ReduceOp(op)])
def test_ops_by_any_name(replicas, op, spell):
    got = replicas.run(lambda: float(get_replica_context().all_reduce(spell(op), rank() + 1.0)))
    assert got == [THEORY[op](numbers(replicas.size))] * replicas.size


@pytest.mark.parametrize("op", ["avg", "", None, 3])
def test_other_ops_are_refused(replicas, op):
    def program():
        with pytest.raises(ValueError, match="is not a valid ReduceOp"):
            get_replica_context().all_reduce(op, 1.0)
        return float(get_replica_context().all_reduce("sum", 1.0))

    assert replicas.run(program) == [float(replicas.size)] * replicas.size


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "int64", "complex64"])
@pytest.mark.parametrize("op", THEORY)
def test_dtypes_and_shapes_are_kept(replicas, op, dtype):
    if dtype == "complex64" and op in ("min", "max"):
        return

    def program():
        result = get_replica_context().all_reduce(op, np.full((2, 0, 3), rank(), dtype))
        other = get_replica_context().all_reduce(op, np.full((2, 3), rank() + 1, dtype))
        assert isinstance(result, Tensor)
        return result.shape, other.dtype.name, other.numpy().tolist()

    kept = "float64" if op == "mean" and dtype.startswith("int") else dtype
    value = THEORY[op](numbers(replicas.size))
    assert replicas.run(program) == [((2, 0, 3), kept, [[value] * 3] * 2)] * replicas.size


def test_nested_structures_of_anything_that_is_an_array(replicas):
    def program():
        r = rank() + 1
        value = {
            "b": [np.float32(r), (Variable([1.0 * r, 2.0]), [r])],
            "a": Pair(Tensor(np.arange(3.0) * r), []),
            "none": {},
        }
        result = get_replica_context().all_reduce("sum", value)
        assert list(result) == ["b", "a", "none"]
        assert type(result["a"]) is Pair
        assert type(result["b"][1]) is tuple
        assert (result["a"].right, result["none"]) == ([], {})
        b = result["b"]
        return [float(b[0]), b[1][0].numpy().tolist(), int(b[1][1][0]), result["a"].left.numpy().tolist()]

    total = sum(numbers(replicas.size))
    want = [total, [total, 2.0 * replicas.size], total, [0.0, total, 2.0 * total]]
    assert replicas.run(program) == [want] * replicas.size


def test_nothing_at_all(replicas):
    def program():
        c = get_replica_context()
        return c.all_reduce("sum", []), c.all_reduce("mean", {}), c.all_gather((), 0)

    assert replicas.run(program) == [([], {}, ())] * replicas.size


@pytest.mark.parametrize("value", [None, [1.0, None], {"a": None}])
def test_none_is_an_error_on_all(replicas, value):
    def program():
        with pytest.raises(ValueError, match="got None among its values"):
            get_replica_context().all_reduce("sum", value)
        return True

    assert replicas.run(program) == [True] * replicas.size


@pytest.mark.parametrize("value", ["text", [object()]])
@pytest.mark.parametrize("call", ["all_reduce", "all_gather", "broadcast"])
def test_what_is_no_number_is_refused(replicas, call, value):
    calls = {
        "all_reduce": lambda c: c.all_reduce("sum", value),
        "all_gather": lambda c: c.all_gather(np.array([value], object), 0),
        "broadcast": lambda c: c.broadcast(value),
    }

    def program():
        with pytest.raises(TypeError, match="numbers"):
            calls[call](get_replica_context())
        return True

    assert replicas.run(program) == [True] * replicas.size


def test_a_wrong_argument_on_one_is_told_to_all(replicas):
    def program():
        value = None if rank() == replicas.size - 1 else 1.0
        try:
            get_replica_context().all_reduce("sum", value)
        except (ReplicaFailed, ValueError) as error:
            return type(error).__name__, "None among its values" in str(error)
        return None

    want = [("ReplicaFailed", True)] * (replicas.size - 1) + [("ValueError", True)]
    assert replicas.run(program) == want


def test_the_result_does_not_change_with_the_argument(replicas):
    def program():
        c = get_replica_context()
        array, variable = np.ones(3, "f4"), Variable(np.ones(3, "f4"))
        results = [c.all_reduce("max", array), c.all_gather(array, 0), c.broadcast(array)]
        results += [c.all_reduce("max", variable), c.all_gather(variable, 0), c.broadcast(variable)]
        array[:] = 5
        variable.assign_add(np.ones(3))
        return {float(x) for result in results for x in result.numpy()}

    assert replicas.run(program) == [{1.0}] * replicas.size


@pytest.mark.parametrize("op", ["sum", "mean"])
def test_rows_are_joined(replicas, op):
    def program():
        r = rank()
        rows = np.full((r + 1, 2), r + 1.0, "f4")
        slices = IndexedSlices(rows, np.arange(r + 1, dtype="i4"), (9, 2))
        result = get_replica_context().all_reduce(op, [slices])[0]
        assert isinstance(result, IndexedSlices)
        return (
            np.asarray(result.values)[:, 0].tolist(),
            np.asarray(result.indices).tolist(),
            result.shape,
            result.to_dense()[0].tolist(),
        )

    n = replicas.size
    values = np.repeat(numbers(n), numbers(n)).astype("f4") / (1 if op == "sum" else n)
    indices = [i for r in range(n) for i in range(r + 1)]
    total = sum(numbers(n)) / (1 if op == "sum" else n)
    assert replicas.run(program) == [(values.tolist(), indices, (9, 2), [total, total])] * n


@pytest.mark.parametrize("op", ["min", "max"])
def test_rows_have_no_extremes(replicas, op):
    def program():
        with pytest.raises(ValueError, match="does not take IndexedSlices"):
            get_replica_context().all_reduce(op, IndexedSlices(np.ones((1, 2), "f4"), [0], (3, 2)))
        return True

    assert replicas.run(program) == [True] * replicas.size


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_all_gather_of_unequal_lengths(replicas, axis):
    def arrays():
        result = []
        for r in range(replicas.size):
            shape = [2, 3, 2]
            shape[axis] = r  # nothing at all from replica 0
            result.append(np.arange(np.prod(shape), dtype="i8").reshape(shape) + 100 * r)
        return result

    got = replicas.run(lambda: get_replica_context().all_gather(arrays()[rank()], axis).numpy())
    want = np.concatenate(arrays(), axis)
    assert all(np.array_equal(g, want) for g in got)


def test_all_gather_of_structures(replicas):
    def program():
        got = get_replica_context().all_gather({"x": [np.full(2, rank())], "y": Variable([rank()])}, axis=0)
        return got["x"][0].numpy().tolist(), got["y"].numpy().tolist()

    ranks = list(range(replicas.size))
    assert replicas.run(program) == [(np.repeat(ranks, 2).tolist(), ranks)] * replicas.size


@pytest.mark.parametrize(("value", "axis"), [(1.0, 0), (np.ones(3), 1), (np.ones(3), -2), (None, 0)])
def test_all_gather_needs_the_axis(replicas, value, axis):
    def program():
        with pytest.raises(ValueError, match="has no such axis"):
            get_replica_context().all_gather(value, axis)
        return True

    assert replicas.run(program) == [True] * replicas.size


@pytest.mark.parametrize("root", [-1, 99])
def test_broadcast_from_nobody(replicas, root):
    def program():
        with pytest.raises(ValueError, match="the replicas are 0 to"):
            get_replica_context().broadcast(1.0, root=root)
        return True

    assert replicas.run(program) == [True] * replicas.size


def test_broadcast(replicas):
    def program():
        c = get_replica_context()
        value = {"a": np.arange(6.0).reshape(2, 3) + rank(), "b": [rank(), np.zeros((0, 2))]}
        first, last = c.broadcast(value), c.broadcast(value, root=replicas.size - 1)
        assert first["b"][1].shape == (0, 2)
        return first["a"].numpy().tolist(), int(first["b"][0]), float(last["a"][0, 0]), int(last["b"][0])

    last = replicas.size - 1
    assert (
        replicas.run(program) == [([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], 0, float(last), last)] * replicas.size
    )


def test_merge_call_hands_arguments_over_and_the_result_back(replicas):
    def merge(strategy, same, own, *, key):
        assert distribute.in_cross_replica_context()
        assert distribute.get_replica_context() is None
        assert distribute.get_strategy() is strategy
        owns = strategy.experimental_local_results(own)
        return {"same": same, "owns": len(owns), "key": key, "own": own}

    def program():
        result = get_replica_context().merge_call(merge, args=("text", [rank()]), kwargs={"key": 5})
        return result["same"], result["owns"], result["key"], result["own"]

    local = replicas.size if replicas.kind == "virtual" else 1
    got = replicas.run(program)
    assert [g[0] for g in got] == ["text"] * replicas.size
    assert {g[2] for g in got} == {5}
    assert [g[3] for g in got] == [[r] for r in range(replicas.size)]
    assert {g[1] for g in got} <= {local, 1}  # a list of PerReplica is one thing


@pytest.mark.parametrize("op", THEORY)
def test_reduce_inside_merge_call(replicas, op):
    """The most common use of merge_call."""

    def program():
        value = np.float32(rank() + 1)
        return float(get_replica_context().merge_call(lambda s, v: s.reduce(op, v, axis=None), args=(value,)))

    assert replicas.run(program) == [THEORY[op](numbers(replicas.size))] * replicas.size


def test_an_exception_inside_merge_call_is_raised_on_all(replicas):
    def fail(strategy):
        raise KeyError("inside")

    def program():
        try:
            get_replica_context().merge_call(fail)
        except (KeyError, ReplicaFailed) as error:
            text = repr(error)
        return "inside" in text, float(get_replica_context().all_reduce("sum", 1.0))

    assert replicas.run(program) == [(True, float(replicas.size))] * replicas.size


def test_different_functions_in_merge_call(replicas):
    if replicas.size == 1:
        return

    def one(strategy):
        return 1

    def other(strategy):
        return 2

    def program():
        with pytest.raises(RuntimeError, match=r"merge_call\(one\)"):
            get_replica_context().merge_call(one if rank() == 0 else other)
        return True

    assert replicas.run(program) == [True] * replicas.size


@pytest.mark.tree
@pytest.mark.parametrize(
    ("op", "dtype"),
    [
        ("sum", "float32"),
        ("mean", "float32"),
        ("mean", "int64"),
        ("sum", "float16"),
        *(
            pytest.param(op, dtype, marks=pytest.mark.slow)
            for op, dtype in [
                ("mean", "float16"),
                ("sum", "int64"),
                *itertools.product(["sum", "mean"], ["float64", "bool", "complex64"]),
            ]
        ),
    ],
)
def test_sums_through_shared_memory_have_the_bits_of_those_by_messages(replicas, op, dtype, monkeypatch):
    """Several blocks, arrays that end inside of them, and arrays without elements."""
    sizes = (3, 0, 5000, 700_000, 1, 4096, 300_001)

    def program():
        random = np.random.default_rng(rank())
        values = [(random.normal(size=n) * 100).astype(dtype) for n in sizes]
        kept = [value.copy() for value in values]
        context = get_replica_context()
        context._all_reduce = None
        totals = context.all_reduce(op, values), context.all_reduce(op, values)
        assert all(np.array_equal(a, b) for a, b in zip(values, kept, strict=True)), "changed what it got"
        # Megabytes of each replica: by their hashes, which are quicker to gather.
        return [[hashlib.sha256(t.numpy().tobytes()).digest() for t in own] for own in totals]

    module = sys.modules[NodeAllReduce.__module__]
    monkeypatch.setattr(module, "_SMALL", 1 << 60)
    by_messages = replicas.run(program)
    monkeypatch.setattr(module, "_SMALL", 0)
    staged = replicas.run(program)
    assert staged == by_messages
    for first, again in staged:
        assert first == again
