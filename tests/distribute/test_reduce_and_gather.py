"""Strategy.reduce and Strategy.gather: what run() returned, brought together."""

import numpy as np
import pytest

from distopt import IndexedSlices, Tensor, Variable, constant
from distopt.distribute import PerReplica, ReduceOp, VirtualStrategy, get_replica_context, get_strategy


def me():
    return get_replica_context().replica_id_in_sync_group


@pytest.fixture(params=[1, 2, 3])
def strategy(request):
    return VirtualStrategy(request.param)


THEORY = {"sum": sum, "mean": lambda xs: sum(xs) / len(xs), "min": min, "max": max}


@pytest.mark.parametrize("op", THEORY)
def test_over_replicas(strategy, op):
    size = strategy.num_replicas_in_sync
    values = strategy.run(lambda: Tensor(np.float32(me() + 1)))
    for spelled in (op, op.upper(), ReduceOp(op)):
        result = strategy.reduce(spelled, values, axis=None)
        assert isinstance(result, Tensor)
        assert float(result) == THEORY[op](list(range(1, size + 1)))


def test_structures(strategy):
    values = strategy.run(lambda: {"a": [Tensor(np.ones(2) * me())], "b": Tensor(np.int64(1))})
    size = strategy.num_replicas_in_sync
    result = strategy.reduce("sum", values, axis=None)
    assert result["a"][0].numpy().tolist() == [sum(range(size))] * 2
    assert int(result["b"]) == size


def test_mean_over_an_axis_weighs_every_element_alike():
    """2 rows of 1 and 3 rows of 10: 6.4."""
    values = PerReplica((np.full((2, 1), 1.0, "f4"), np.full((3, 1), 10.0, "f4")))
    two = VirtualStrategy(2)
    result = two.reduce("mean", values, axis=0)
    assert result.dtype == np.float32
    assert result.numpy().tolist() == pytest.approx([6.4], rel=1e-6)
    assert two.reduce("sum", values, axis=0).numpy().tolist() == [32.0]
    assert two.reduce("max", values, axis=0).numpy().tolist() == [10.0]


@pytest.mark.parametrize("axis", [1, -1])
def test_other_axes(axis):
    values = PerReplica((np.ones((2, 1)), np.ones((2, 3)) * 3))
    assert VirtualStrategy(2).reduce("mean", values, axis=axis).numpy().tolist() == [2.5, 2.5]


def test_mean_of_integers():
    values = PerReplica((np.array([1, 2]), np.array([4])))
    result = VirtualStrategy(2).reduce("mean", values, axis=0)
    assert result.dtype == np.float64
    assert float(result) == pytest.approx(7 / 3)


def test_an_axis_that_is_not_there():
    with pytest.raises(ValueError, match="axis 1"):
        VirtualStrategy(2).reduce("sum", PerReplica((np.ones(2), np.ones(2))), axis=1)


def test_unequal_shapes_without_axis():
    with pytest.raises(RuntimeError, match=r"float64\[2\]"):
        VirtualStrategy(2).reduce("sum", PerReplica((np.ones(2), np.ones(3))), axis=None)


@pytest.mark.parametrize("value", [Tensor(np.float32(3.0)), Variable(3.0)])
def test_one_value_that_is_not_per_replica(value):
    two = VirtualStrategy(2)
    with pytest.raises(ValueError, match="not per replica"):
        two.reduce("sum", value, axis=None)
    assert float(two.reduce("mean", value, axis=None)) == 3.0
    assert float(get_strategy().reduce("sum", value, axis=None)) == 3.0


def test_an_unknown_op(strategy):
    with pytest.raises(ValueError, match="is not a valid ReduceOp"):
        strategy.reduce("median", 1.0, axis=None)


def test_rows_stay_rows():
    values = VirtualStrategy(2)
    rows = values.run(lambda: IndexedSlices(np.full((1, 2), me() + 1.0), np.array([me()]), (4, 2)))
    result = values.reduce("mean", rows, axis=None)
    assert np.asarray(result.values).tolist() == [[0.5, 0.5], [1.0, 1.0]]
    assert np.asarray(result.indices).tolist() == [0, 1]


def test_gather_of_unequal_lengths(strategy):
    size = strategy.num_replicas_in_sync
    values = strategy.run(lambda: (Tensor(np.full((me() + 1, 2), me())),))[0]
    got = strategy.gather(values, axis=0).numpy()
    assert got[:, 0].tolist() == [r for r in range(size) for _ in range(r + 1)]


def test_gather_of_structures():
    two = VirtualStrategy(2)
    values = two.run(lambda: {"x": Tensor(np.array([me()]))})
    assert two.gather(values, axis=0)["x"].numpy().tolist() == [0, 1]


@pytest.mark.parametrize("inside", ["scope", "top"])
def test_in_scope_as_at_the_top(inside):
    two = VirtualStrategy(2)
    values = two.run(lambda: Tensor(np.float64(me())))
    if inside == "scope":
        with two.scope():
            assert float(two.reduce("sum", values, axis=None)) == 1.0
    else:
        assert float(two.reduce("sum", values, axis=None)) == 1.0


EDGES = {
    "bool": True,
    "uint8": 200,
    "int32": 2_000_000_000,
    "int64": 2**62,
    "uint64": 2**63,
    "float16": 60000.0,
}


@pytest.mark.parametrize("dtype", EDGES)
def test_means_at_the_edge_of_a_dtype(dtype):
    """Lengths differ; the mean is over all elements, whose sum leaves the dtype."""
    for order in "=>":
        kind = np.dtype(dtype).newbyteorder(order)
        values = PerReplica((np.full((3, 1), EDGES[dtype], kind), np.full((1, 1), EDGES[dtype], kind)))
        mean = VirtualStrategy(2).reduce("mean", values, axis=0)
        assert mean.dtype == (np.float16 if dtype == "float16" else np.float64)
        assert mean.numpy().tolist() == [float(EDGES[dtype])]
    nothing = PerReplica((np.zeros((0, 1), dtype), np.zeros((0, 1), dtype)))
    assert np.isnan(VirtualStrategy(2).reduce("mean", nothing, axis=0).numpy()).all()
    one = get_strategy().reduce("mean", np.full((4, 1), EDGES[dtype], dtype), axis=0)
    assert one.numpy().tolist() == [float(EDGES[dtype])]
    same = VirtualStrategy(2).reduce("mean", constant(np.array([EDGES[dtype]], dtype)), axis=None)
    assert same.dtype == mean.dtype
    assert same.numpy().tolist() == [float(EDGES[dtype])]
