"""Gradients of PyTorch models that travel between nodes in a wire format."""

import numpy as np
import pytest
from replicated import on_replicas, rank

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


@pytest.mark.parametrize("whole", [False, True], ids=["step", "aggregate, then step"])
def test_a_step_is_that_of_rounded_gradients(monkeypatch, whole):
    import distopt.torch as dt
    from distopt.aggregators import Mean

    monkeypatch.setenv("DISTOPT_NODES", "2")
    gradients = np.random.default_rng(0).normal(size=(2, 40)).astype("f4")

    def train():
        parameter = torch.nn.Parameter(torch.zeros(40))
        optimizer = dt.SGD([parameter], lr=1.0, aggregator=Mean(wire="bf16"))
        parameter.grad = torch.from_numpy(gradients[rank()].copy())
        if whole:
            optimizer.aggregate()
        optimizer.step()
        return parameter.detach().numpy().copy()

    def bf16(x):
        return torch.from_numpy(x).bfloat16().float().numpy()

    expected = -bf16(bf16(gradients[0]) + bf16(gradients[1])) / 2
    for found in on_replicas(2, train):
        np.testing.assert_array_equal(found, expected)
