"""Update rules have the numbers of ``torch.optim``, with every option."""

import numpy as np
import pytest

from distopt.torch.rules.adam import AdamUpdate
from distopt.torch.rules.sgd import SGDUpdate
from tests.pytorch.beside_torch import Parameter, assert_same, gradients

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

UPDATES = {
    "SGD": SGDUpdate(),
    "Adam": AdamUpdate(),
    "AdamW": AdamUpdate(),
}
LATER_LR = {20: {"lr": 0.004}}
CASES = [
    ("SGD", {}, {}),
    ("SGD", {"weight_decay": 0.1}, {}),
    ("SGD", {"maximize": True}, {}),
    ("SGD", {"weight_decay": 0.1, "maximize": True}, LATER_LR),
    ("SGD", {"momentum": 0.9}, LATER_LR),
    ("SGD", {"momentum": 0.9, "dampening": 0.3}, {}),
    ("SGD", {"momentum": 0.9, "dampening": 0.3, "maximize": True, "weight_decay": 0.1}, LATER_LR),
    ("SGD", {"momentum": 0.9, "nesterov": True}, LATER_LR),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True}, {}),
    ("SGD", {"momentum": 0.9, "dampening": 0.3}, {10: {"momentum": 0}, 20: {"momentum": 0.5}}),
    ("SGD", {"dampening": 0.3}, {10: {"momentum": 0.9}, 20: {"weight_decay": 0.1}}),
    *(
        (name, options, changes)
        for name in ("Adam", "AdamW")
        for options, changes in (
            ({}, {}),
            ({"weight_decay": 0.1}, LATER_LR),
            ({"weight_decay": 0}, {}),
            ({"maximize": True}, {}),
            ({"maximize": True, "weight_decay": 0.1}, {}),
            ({"amsgrad": True}, {}),
            ({"amsgrad": True, "maximize": True, "weight_decay": 0.1, "eps": 1e-3}, LATER_LR),
            ({"betas": (0.0, 0.9)}, {}),
            ({"betas": (0.5, 0.999)}, {}),
            ({"betas": (0.3, 0.0)}, {}),
            ({"betas": (0.9, 0.99), "eps": 0.5}, {10: {"betas": (0.4, 0.999)}, 20: {"betas": (0.95, 0.9)}}),
        )
    ),
    ("Adam", {"decoupled_weight_decay": True, "weight_decay": 0.1}, LATER_LR),
]


def ids(case):
    name, options, changes = case
    said = "-".join(f"{key}={value}" for key, value in options.items())
    return "-".join([name, said, *("then " + "-".join(new) for new in changes.values())])


every_case = pytest.mark.parametrize("case", CASES, ids=ids)
both_dtypes = pytest.mark.parametrize("dtype", ["f4", "f8"])


def beside(name, options, value):
    """A parameter, the tensor that PyTorch updates, and the optimizer with one group."""
    theirs = torch.nn.Parameter(torch.from_numpy(value.copy()))
    optimizer = getattr(torch.optim, name)([theirs], **{"lr": 0.01, **options})
    return Parameter(UPDATES[name], value), theirs, optimizer


def both_step(own, theirs, optimizer, gradient):
    theirs.grad = torch.from_numpy(gradient.copy())
    optimizer.step()
    own.step(optimizer.param_groups[0], gradient)


@every_case
@both_dtypes
def test_thirty_steps(case, dtype):
    name, options, changes = case
    start = np.random.default_rng(1).normal(size=(7, 13)).astype(dtype)
    own, theirs, optimizer = beside(name, options, start)
    for i, gradient in enumerate(gradients(start.shape, dtype, 30)):
        optimizer.param_groups[0].update(changes.get(i, {}))
        both_step(own, theirs, optimizer, gradient)
        assert_same(own, theirs, optimizer)
    assert np.abs(own.value - start).min() > 0
