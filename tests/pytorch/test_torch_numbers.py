"""Optimizers over replicas have the numbers of ``torch.optim`` on the whole batch."""

import pytest

torch = pytest.importorskip("torch")

from tests.pytorch.same_program import assert_same, kept, mlp, train  # noqa: E402

pytestmark = pytest.mark.torch

#: The optimizer's name, its options, and what each of two groups has instead.
CASES = [
    ("SGD", {"lr": 0.1}, {"weight_decay": 0.01}, {"momentum": 0.9, "dampening": 0.3, "lr": 0.05}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "maximize": True}, {"lr": 0.001}, {"weight_decay": 0.1}),
    ("Adam", {"lr": 0.02}, {"betas": (0.8, 0.99), "weight_decay": 0.1}, {"amsgrad": True, "eps": 1e-4}),
    ("AdamW", {"weight_decay": 0.1}, {"lr": 0.05, "amsgrad": True}, {"betas": (0.5, 0.9), "maximize": True}),
    ("RMSprop", {"lr": 0.01}, {"momentum": 0.5, "alpha": 0.9}, {"centered": True, "eps": 0.01}),
    ("RMSprop", {"eps": 0.1}, {"weight_decay": 0.1}, {"centered": True, "momentum": 0.9, "maximize": True}),
    (
        "Adagrad",
        {"lr": 0.1, "initial_accumulator_value": 0.3},
        {"lr_decay": 0.2},
        {"weight_decay": 0.1, "eps": 0.1},
    ),
    ("Adadelta", {"lr": 1.0}, {"rho": 0.5, "weight_decay": 0.1}, {"eps": 1e-3, "maximize": True}),
    ("Adamax", {"lr": 0.01}, {"betas": (0.3, 0.9), "weight_decay": 0.1}, {"eps": 0.1, "maximize": True}),
    (
        "NAdam",
        {"lr": 0.01, "weight_decay": 0.1},
        {"decoupled_weight_decay": True, "betas": (0.5, 0.99)},
        {"momentum_decay": 0.1, "maximize": True},
    ),
    (
        "RAdam",
        {"lr": 0.01, "weight_decay": 0.1},
        {"decoupled_weight_decay": True, "betas": (0.5, 0.99)},
        {"eps": 0.1, "maximize": True},
    ),
]


@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)], ids=["f4", "f8"]
)
@pytest.mark.parametrize("sizes", [(2,), pytest.param((1, 4), marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join([case[0], *map(str, case[1])]))
def test_thirty_steps_in_groups(case, sizes, dtype):
    name, options, first, second = case

    def program(side):
        model = mlp(dtype)
        groups = [{"params": model[0].parameters(), **first}, {"params": model[2].parameters(), **second}]
        optimizer = getattr(side.optim, name)(groups, **options)
        train(model, optimizer, side, range(30), dtype)
        return kept(model, optimizer)

    assert_same(program, sizes)
