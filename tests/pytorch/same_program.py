"""A program that trains with torch.optim in one process, and again with distopt.torch on replicas.

A program is a function of a Side. It says which optimizers it takes, and which part of a batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from replicated import on_replicas, rank

torch = pytest.importorskip("torch")
dt = pytest.importorskip("distopt.torch")

#: Of the largest value of a tensor.
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-12}
SIZES = (1, 2)
#: A whole batch has so many examples.
BATCH = 8


@dataclass(frozen=True)
class Side:
    """One of the two.

    Attributes:
        optim: ``torch.optim`` or ``distopt.torch``.
        part: which examples of a batch are this replica's.
    """

    optim: Any
    part: slice

    @property
    def ours(self):
        return self.optim is dt

    def __call__(self, batch):
        return batch[self.part]


THEIRS = Side(torch.optim, slice(None))


def assert_same(program, sizes=SIZES, tolerances=TOLERANCES):
    """What ``program(side)`` returns is the same on both sides: nested dicts and lists with tensors."""
    want = program(THEIRS)
    for size in sizes:
        for got in on_replicas(size, lambda n=size: program(Side(dt, slice(rank(), None, n)))):
            assert_close(got, want, tolerances, f"at {size} replicas: ")
    return want


def assert_close(got, want, tolerances=TOLERANCES, where=""):
    if isinstance(want, torch.Tensor):
        assert isinstance(got, torch.Tensor), where
        assert (got.dtype, got.shape) == (want.dtype, want.shape), where
        largest = want.abs().max().item() if want.numel() else 0.0
        error = (got - want).abs().max().item() if want.numel() else 0.0
        assert error <= tolerances.get(want.dtype, 0) * largest, f"{where}: {error} of {largest}"
    elif isinstance(want, Mapping):
        assert got.keys() == want.keys(), where
        for key in want:
            assert_close(got[key], want[key], tolerances, f"{where}[{key!r}]")
    elif isinstance(want, (list, tuple)):
        assert type(got) is type(want), where
        assert len(got) == len(want), where
        for i, pair in enumerate(zip(got, want, strict=True)):
            assert_close(*pair, tolerances, f"{where}[{i}]")
    else:
        assert type(got) is type(want), where
        assert got == want, where


def kept(*objects):
    """Copies of all that models and optimizers hold, of nested tensors, too."""
    found = []
    for thing in objects:
        state = thing.state_dict() if hasattr(thing, "state_dict") else thing
        found.append(torch.utils._pytree.tree_map(_copied, state))
    return found


def _copied(leaf):
    return leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf


def mlp(dtype=torch.float32, seed=0):
    """A model that is smooth, so that rounding stays small."""
    torch.manual_seed(seed)
    layers = torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)
    return torch.nn.Sequential(*layers).to(dtype)


def batch(step, *shape, dtype=torch.float32):
    """Numbers for all examples of a step, ``[BATCH, *shape]``."""
    generator = torch.Generator().manual_seed(100 + step)
    return torch.randn(BATCH, *shape, dtype=torch.float64, generator=generator).to(dtype)


def loss(model, side, step, dtype=torch.float32):
    """The loss of this side's examples."""
    x, y = side(batch(2 * step, 3, dtype=dtype)), side(batch(2 * step + 1, 2, dtype=dtype))
    return torch.nn.functional.mse_loss(model(x), y)


def train(model, optimizer, side, steps, dtype=torch.float32):
    """Steps of a model with 3 inputs and 2 outputs."""
    for step in steps:
        optimizer.zero_grad()
        loss(model, side, step, dtype).backward()
        optimizer.step()
