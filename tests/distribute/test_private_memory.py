"""Replicas that share no memory exchange as nodes do; all get the bits of those that share it."""

import hashlib

import numpy as np
import pytest
from replicated import on_replicas, rank

import distopt as tf
from distopt.optimizers import Adam

SHAPES = [(1,), (1000,), (257, 300), (70_001,)]


def trained():
    """The SHA-256 of a replica's variables after steps with gradients whose sum depends on its order."""
    rng = np.random.default_rng(rank())
    variables = [tf.Variable(np.ones(shape, "f4")) for shape in SHAPES]
    optimizer = Adam(0.1)
    for _ in range(2):
        scales = 10.0 ** rng.integers(-4, 5, len(SHAPES))
        gradients = [
            (s * rng.normal(size=shape)).astype("f4") for s, shape in zip(scales, SHAPES, strict=True)
        ]
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
    return hashlib.sha256(b"".join(v.numpy().tobytes() for v in variables)).hexdigest()


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 7, 8, 12])
def test_one_hash(monkeypatch, count):
    shared = on_replicas(count, trained)
    monkeypatch.setenv("DISTOPT_MEMORY", "private")
    assert set(on_replicas(count, trained)) == set(shared)
    assert len(set(shared)) == 1
