"""A small model, a batch that replicas share out, and what PyTorch does with the whole of it."""

import torch
from replicated import rank
from torch import nn

from distopt.distribute import get_strategy

#: Of the largest value of an array.
TOLERANCES = {torch.float32: 2e-6, torch.float64: 1e-14}
EXAMPLES = 8


def model(dtype=torch.float32, seed=0):
    """Two layers; the same values wherever it is made."""
    generator = torch.Generator().manual_seed(seed)
    made = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=dtype) / 2)
    return made


def batch(step=0, dtype=torch.float32):
    """Inputs and targets of all replicas together."""
    generator = torch.Generator().manual_seed(100 + step)
    x = torch.randn(EXAMPLES, 3, generator=generator, dtype=dtype)
    return x, torch.randn(EXAMPLES, 2, generator=generator, dtype=dtype)


def loss(module, x, y):
    return ((module(x) - y) ** 2).mean()


def backward(module, step=0):
    """Gradients of this replica's equal share of the batch."""
    dtype = next(module.parameters()).dtype
    size = get_strategy().num_replicas_in_sync
    x, y = (part.chunk(size)[rank()] for part in batch(step, dtype))
    found = loss(module, x, y)
    found.backward()
    return found.detach()


def beside(make, steps=3, dtype=torch.float32, around=None):
    """The parameters after steps of PyTorch's optimizer on the whole batch."""
    module = model(dtype)
    optimizer = make(module.parameters())
    for step in range(steps):
        optimizer.zero_grad()
        loss(module, *batch(step, dtype)).backward()
        if around is not None:
            around(module)
        optimizer.step()
    return values(module)


def values(module):
    return [parameter.detach().clone() for parameter in module.parameters()]


def assert_close(found, wanted, tolerances=TOLERANCES):
    assert len(found) == len(wanted)
    for f, w in zip(found, wanted, strict=True):
        assert f.dtype == w.dtype
        torch.testing.assert_close(f, w, rtol=0, atol=tolerances[w.dtype] * max(float(w.abs().max()), 1.0))


def assert_same_everywhere(results):
    """Bit for bit."""
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
