"""Checkpoints of LocalSGD and DiLoCo in the middle of a round."""

from functools import partial

import numpy as np
import pytest

import distopt as tf
from distopt.checkpoint import CheckpointManager
from distopt.optimizers import AdamW, DiLoCo, LocalSGD
from tests.replicated import on_replicas, rank

EVERY = 3
OPTIMIZERS = {
    "LocalSGD": lambda: LocalSGD(AdamW(0.125, weight_decay=0, gradient_aggregator="mean"), every=EVERY),
    "DiLoCo": lambda: DiLoCo(AdamW(0.125, weight_decay=0, gradient_aggregator="mean"), every=EVERY),
}


def variables():
    shapes = {"w": (3, 4), "b": (4,)}
    return [tf.Variable(np.ones(shape, np.float32), name=name) for name, shape in shapes.items()]


def gradient(step, w):
    target = np.random.default_rng(100 * step + rank()).normal(size=w.shape)
    return (w - target).astype(w.dtype)


def train(make, folder, first, last):
    """Steps ``first`` to ``last``, from a checkpoint if there is one; saves at the end."""
    w, b = variables()
    optimizer = make()
    manager = CheckpointManager(str(folder), variables=[w, b], optimizer=optimizer)
    assert manager.restore() == (first > 0)
    for step in range(first, last):
        optimizer.apply_gradients([(gradient(step, v.numpy()), v) for v in (w, b)])
    manager.save()
    return [w.numpy(), b.numpy(), *optimizer.get_weights()]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_from_the_middle_of_a_round_has_the_same_bits(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTOPT_NODES", "2")
    make = OPTIMIZERS[name]
    whole = on_replicas(4, partial(train, make, tmp_path / "whole", 0, 3 * EVERY + 1))
    on_replicas(4, partial(train, make, tmp_path / "parts", 0, EVERY + 2))
    parts = on_replicas(4, partial(train, make, tmp_path / "parts", EVERY + 2, 3 * EVERY + 1))
    for replica in range(4):
        for found, expected in zip(parts[replica], whole[replica], strict=True):
            assert np.array_equal(found, expected)
    assert not np.array_equal(whole[0][0], whole[2][0])


def weights_of(make, folder):
    """The weights after a step without gradient, and the steps made."""
    w, b = variables()
    optimizer = make()
    CheckpointManager(str(folder), variables=[w, b], optimizer=optimizer).restore()
    optimizer.learning_rate = 0.0
    optimizer.apply_gradients([(np.zeros(v.shape, np.float32), v) for v in (w, b)])
    return w.numpy(), int(optimizer.iterations)


def test_on_other_nodes_a_run_begins_with_the_mean(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTOPT_NODES", "2")
    make = OPTIMIZERS["LocalSGD"]
    before = [w for w, *_ in on_replicas(4, partial(train, make, tmp_path, 0, EVERY + 1))]
    mean = (before[0] + before[2]) / 2
    # As many replicas on nodes of their own go on from what each had.
    for replicas, nodes, expected in [(4, 1, [mean] * 4), (2, 1, [mean] * 2), (4, 4, before)]:
        monkeypatch.setenv("DISTOPT_NODES", str(nodes))
        after = on_replicas(replicas, partial(weights_of, make, tmp_path))
        for (found, steps), weights in zip(after, expected, strict=True):
            np.testing.assert_allclose(found, weights, rtol=2.0**-22)  # two roundings
            assert steps == EVERY + 2
