"""Means over replicas are right wherever they can be represented, in every dtype and byte order."""

from fractions import Fraction

import numpy as np
import programs
import pytest

from distopt import IndexedSlices, Variable, VariableAggregation, constant
from distopt.aggregators import Mean, WeightedMean
from distopt.distribute import get_replica_context
from distopt.optimizers import SGD

pytestmark = pytest.mark.tree
rank, size = programs.rank, programs.size


def reduced(op, value):
    return get_replica_context().all_reduce(op, value)


#: What every replica holds: at the edge of the dtype, where sums leave it.
SAME = {
    "bool": True,
    "int8": -128,
    "uint8": 200,
    "int16": 32767,
    "uint16": 65535,
    "int32": 2_000_000_000,
    "uint32": 2**32 - 1,
    "int64": -(2**63),
    "uint64": 2**64 - 2**12,
    "float16": 60000.0,
}


@pytest.mark.parametrize("dtype", SAME)
@pytest.mark.parametrize("shape", [(), (1,), (3, 2), (0,), (40_000,)])
@pytest.mark.parametrize("order", ["=", ">"])
def test_the_mean_of_equal_values_is_that_value(replicas, dtype, shape, order):
    own = np.dtype(dtype)
    wanted = own if own.kind == "f" else np.dtype(np.float64)

    def program():
        mean = reduced("mean", np.full(shape, SAME[dtype], own.newbyteorder(order)))
        right = np.full(shape, SAME[dtype], own).astype(wanted)
        return mean.dtype == wanted and mean.shape == shape and programs.same_bits(mean.numpy(), right[()])

    assert replicas.run(program) == [True] * replicas.size


def test_scalars_and_tensors(replicas):
    def program():
        values = [True, np.True_, constant(200, "uint8"), Variable(np.int32(2e9)), 7, 2.5]
        return [float(mean) for mean in reduced("mean", values)]

    assert replicas.run(program) == [[1.0, 1.0, 200.0, 2e9, 7.0, 2.5]] * replicas.size


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
def test_means_of_integers_are_the_nearest_to_the_exact_ones(replicas, dtype):
    limits = np.iinfo(dtype)
    edge = 2**53 if limits.bits == 64 else 1

    def values(number):
        generator = np.random.default_rng(number)
        anywhere = generator.integers(limits.min, limits.max, 500, np.dtype(dtype), endpoint=True)
        near = (edge + generator.integers(0, 9, 500)).astype(dtype)
        return np.concatenate([anywhere, near])

    def program():
        return reduced("mean", values(rank())).numpy()

    columns = zip(*(values(r).tolist() for r in range(replicas.size)))
    exact = [Fraction(sum(column), replicas.size) for column in columns]
    for mean in replicas.run(program):
        for got, want in zip(mean.tolist(), exact):
            if Fraction(float(want)) == want:
                assert got == float(want)
            assert abs(got - want) <= abs(want) / 2**52


def test_sums_of_booleans_are_counts_and_extremes_stay_booleans(replicas):
    def program():
        own = np.array([True, rank() == 0, False])
        count, largest = reduced("sum", own), reduced("max", own)
        assert (count.dtype, largest.dtype) == (np.int64, np.bool_)
        assert int(reduced("sum", True)) == size()
        return count.numpy().tolist(), largest.numpy().tolist()

    assert replicas.run(program) == [([replicas.size, 1, 0], [True, True, False])] * replicas.size


@pytest.mark.parametrize("op", ["sum", "mean", "max"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i2", "c8"])
def test_byte_orders_may_differ_between_replicas(replicas, op, dtype):
    if op == "max" and dtype == "c8":
        return

    def program():
        order = "<>"[rank() % 2]
        values = {"a": np.arange(1, 7).reshape(2, 3).astype(order + dtype).T, "b": np.array(3, ">" + dtype)}
        found = reduced(op, values)
        assert all(value.dtype.isnative for value in found.values())
        return found["a"].numpy().tolist(), found["b"].numpy().tolist()

    factor = replicas.size if op == "sum" else 1
    want = ([[factor * i, factor * (i + 3)] for i in (1, 2, 3)], 3 * factor)
    assert replicas.run(program) == [want] * replicas.size


def test_what_is_gathered_and_broadcast_has_the_byte_order_of_the_machine(replicas):
    def program():
        own = np.array([rank() + 1], "<>"[rank() % 2] + "i4")
        context = get_replica_context()
        return context.all_gather(own, axis=0).numpy().tolist(), context.broadcast(own).numpy().tolist()

    assert replicas.run(program) == [(list(range(1, replicas.size + 1)), [1])] * replicas.size


@pytest.mark.parametrize(
    ("values", "dtype", "mean"),
    [
        (np.array([[200]], "u1"), "f8", 200.0),
        (np.array([[True]]), "f8", 1.0),
        (np.array([[60000]], "f2"), "f2", 60000.0),
        (np.array([[3]], ">f4"), "f4", 3.0),
    ],
)
def test_rows(replicas, values, dtype, mean):
    """The rows of all replicas are joined; those of one index add up to the mean."""

    def program():
        rows = IndexedSlices(values, np.array([1], ">i8"), (2, 1))
        found = reduced("mean", rows)
        assert found.values.dtype == np.dtype(dtype)
        assert found.indices.numpy().tolist() == [1] * size()
        return float(np.sum(found.values.numpy(), dtype=np.float64)) == pytest.approx(mean, rel=1e-3)

    assert replicas.run(program) == [True] * replicas.size


def test_rows_of_booleans_are_counted_in_sums(replicas):
    def program():
        found = reduced("sum", IndexedSlices(np.array([[True]]), np.array([0]), (1, 1)))
        return found.values.dtype == np.int64 and int(found.values.numpy().sum()) == size()

    assert replicas.run(program) == [True] * replicas.size


AGGREGATORS = {
    "mean": lambda: "mean",
    "weighted_mean": lambda: WeightedMean(1000),
    "weights that differ": lambda: WeightedMean(lambda: 65_000 + rank()),
    "chain": lambda: {"class_name": "chain", "config": {"aggregators": ["mean"]}},
}


@pytest.mark.parametrize("aggregator", AGGREGATORS)
@pytest.mark.parametrize("kind", ["dense", "sparse", "stages", "Python"])
def test_aggregators_on_float16(replicas, aggregator, kind):
    """One gradient at the edge of float16 on all replicas: their mean is itself."""

    def program():
        v = Variable(np.zeros((3, 2), "f2"), name="v")
        make = programs.Momentum if kind == "Python" else SGD
        transformers = [lambda pairs: pairs] if kind == "stages" else None
        optimizer = make(
            -1.0, gradient_aggregator=AGGREGATORS[aggregator](), gradient_transformers=transformers
        )
        gradient = np.full((3, 2), 60000, "f2")
        if kind == "sparse":
            gradient = IndexedSlices(gradient, np.arange(3), (3, 2))
        optimizer.apply_gradients([(gradient, v)])
        return v.numpy().ravel().tolist()

    for found in replicas.run(program):
        assert found == pytest.approx([60000.0] * 6, rel=1e-3)


@pytest.mark.parametrize("make", [Mean, lambda: WeightedMean(3)])
@pytest.mark.parametrize("gradient", [np.array([200], "u1"), np.array([True]), np.array([60000], "f2")])
def test_aggregators_called_by_hand(replicas, make, gradient):
    def program():
        [(mean, _), (none, _)] = make()([(gradient, Variable([0.0])), (None, Variable([0.0]))])
        assert none is None
        assert mean.dtype == (np.float16 if gradient.dtype == np.float16 else np.float64)
        return mean.numpy().tolist()

    assert replicas.run(program) == [[float(gradient[0])]] * replicas.size


def test_mixed_dtypes_in_one_step(replicas):
    def program():
        half, single = Variable(np.zeros(2, "f2"), name="h"), Variable(np.zeros(2, "f4"), name="s")
        optimizer = SGD(-1.0, gradient_aggregator="mean")
        optimizer.apply_gradients([(np.full(2, 60000, "f2"), half), (np.full(2, 1 + rank(), "f4"), single)])
        return half.numpy().tolist(), single.numpy().tolist()

    want = ([60000.0] * 2, [(replicas.size + 1) / 2] * 2)
    assert replicas.run(program) == [want] * replicas.size


def test_variables_that_are_means(replicas):
    def program():
        v = Variable(np.zeros(1, "f2"), aggregation=VariableAggregation.MEAN)
        n = Variable(np.zeros(1, "u1"), aggregation=VariableAggregation.MEAN)
        v.assign([60000.0])
        n.assign([200])
        return v.numpy().tolist(), n.numpy().tolist()

    assert replicas.run(program) == [([60000.0], [200])] * replicas.size


def test_a_big_endian_variable_is_trained(replicas):
    def program():
        v = Variable(np.array([1.0, 2.0], ">f4"), name="v")
        SGD(0.5, gradient_aggregator="mean").apply_gradients([(np.ones(2, "f4"), v)])
        return v.numpy().tolist()

    assert replicas.run(program) == [[0.5, 1.5]] * replicas.size
