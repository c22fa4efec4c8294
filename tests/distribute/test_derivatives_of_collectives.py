"""A loss over all replicas depends on what each of them gave to a collective call."""

from typing import Any

import numpy as np
import pytest
from replicated import on_replicas

import distopt as tf
from distopt.distribute import get_replica_context

VALUES = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 4.0]])


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("op", ["sum", "mean"])
def test_sums_and_means(count: int, op: str) -> None:
    """Each replica's loss is (its number + 1) * the sum of the squares of what all squared, reduced."""

    def program() -> tuple[np.ndarray, np.ndarray, Any]:
        context = get_replica_context()
        rank = context.replica_id_in_sync_group
        v = tf.Variable(VALUES[rank])
        with tf.GradientTape() as outer, tf.GradientTape() as tape:
            found = context.all_reduce(op, {"a": v * v, "b": [1.0, v, 3]})
            loss = (1.0 + rank) * np.sum(found["a"] ** 2) + np.sum(found["b"][1])
            first = tape.gradient(loss, v)
            square = np.sum(first * first)
        return np.array(first), np.array(outer.gradient(square, v)), float(loss)

    def losses(values: np.ndarray) -> float:
        share = 1 if op == "sum" else count
        total = (values**2).sum(axis=0) / share
        return float(sum(range(1, count + 1)) * (total**2).sum() + count * values.sum() / share)

    def squares(values: np.ndarray) -> float:
        return float((slopes(losses, values) ** 2).sum())

    values = VALUES[:count]
    found = on_replicas(count, program)
    np.testing.assert_allclose([one[0] for one in found], slopes(losses, values), rtol=1e-6)
    np.testing.assert_allclose([one[1] for one in found], slopes(squares, values, 1e-3), rtol=1e-4)
    assert sum(one[2] for one in found) == pytest.approx(losses(values))


def slopes(function: Any, values: np.ndarray, step: float = 1e-4) -> np.ndarray:
    """By central differences."""
    found = np.empty_like(values)
    for place in np.ndindex(values.shape):
        shift = np.zeros_like(values)
        shift[place] = step
        found[place] = (function(values + shift) - function(values - shift)) / (2 * step)
    return found


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("axis", [0, -1])
def test_gathered_parts_of_different_lengths(count: int, axis: int) -> None:
    def program() -> np.ndarray:
        context = get_replica_context()
        rank = context.replica_id_in_sync_group
        v = tf.Variable(
            np.full((rank + 1, rank + 1), 2.0)[:, : 1 if axis == 0 else None][: 1 if axis else None]
        )
        with tf.GradientTape() as tape:
            every = context.all_gather(v * v, axis=axis)
            loss = (1.0 + rank) * np.sum(every * np.reshape(np.arange(1.0, every.size + 1), every.shape))
        return np.ravel(np.array(tape.gradient(loss, v)))

    # Each of the ranks weighs the elements 1, 2, ... in their order; d v**2 = 2 v = 4.
    weight = 4.0 * sum(range(1, count + 1))
    expected = weight * np.arange(1.0, sum(range(1, count + 1)) + 1)
    np.testing.assert_allclose(np.concatenate(on_replicas(count, program)), expected)


def test_what_is_only_looked_at_needs_no_derivative() -> None:
    def program() -> tuple[float, float]:
        context = get_replica_context()
        v = tf.Variable([1.0, 2.0])
        with tf.GradientTape() as tape:
            loss = np.sum(v * v)
            shown = float(context.all_reduce("max", loss)), float(np.mean(context.all_reduce("sum", v)))
        assert np.array(tape.gradient(loss, v)).tolist() == [2.0, 4.0]
        return shown

    assert on_replicas(2, program) == [(5.0, 3.0)] * 2


def test_an_extreme_has_no_derivative() -> None:
    v = tf.Variable([1.0, 2.0])
    with tf.GradientTape() as tape:
        loss = np.sum(get_replica_context().all_reduce("max", v))
    with pytest.raises(NotImplementedError, match=r"all_reduce\('max'\) has no derivative.* stop_gradient"):
        tape.gradient(loss, v)
