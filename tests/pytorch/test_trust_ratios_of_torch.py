"""LAMB and LARS, which PyTorch does not have, against the formulas of the papers in double precision."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from replicated import on_replicas, rank  # noqa: E402

import distopt.torch as dt  # noqa: E402

pytestmark = pytest.mark.torch

STEPS = 30
TOLERANCES = {np.dtype("f4"): 1e-5, np.dtype("f8"): 1e-10}
SHAPES = ((4, 3), (3,), (5000,))


def norm(x):
    return np.sqrt((x * x).sum())


def ratio(of_w, of_u, coefficient=1.0):
    return coefficient * of_w / of_u if of_w > 0 and of_u > 0 else 1.0


def lamb(w, gradients, lr, weight_decay=0.0, betas=(0.9, 0.999), eps=1e-6, adapts=True, corrected=True):
    """Algorithm 2 of You et al. 2019, with the identity as phi."""
    m = v = np.zeros_like(w)
    for s, g in enumerate(gradients, 1):
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        c, d = (1 - betas[0] ** s, 1 - betas[1] ** s) if corrected else (1.0, 1.0)
        u = m / c / (np.sqrt(v / d) + eps) + weight_decay * w
        w = w - lr * (ratio(norm(w), norm(u)) if adapts else 1.0) * u
    return w


def lars(w, gradients, lr, weight_decay=0.0, momentum=0.0, nesterov=False, coefficient=0.001, clips=False):
    """Algorithm 1 of You et al. 2017, with the learning rate outside of the momentum, as SGD of PyTorch."""
    buffer = np.zeros_like(w)
    for g in gradients:
        local = ratio(norm(w), norm(g) + weight_decay * norm(w) + 1e-8, coefficient)
        u = (min(local / lr, 1.0) if clips else local) * (g + weight_decay * w)
        buffer = momentum * buffer + u
        w = w - lr * (u + momentum * buffer if nesterov else buffer)
    return w


#: The optimizer's name, its options, what the second group has instead; and the formula of each group.
CASES = [
    (
        "LAMB",
        {"lr": 0.02, "weight_decay": 0.1},
        {"weight_decay": 0.0, "betas": (0.5, 0.9)},
        lambda w, g: lamb(w, g, 0.02, 0.1),
        lambda w, g: lamb(w, g, 0.02, betas=(0.5, 0.9), adapts=False),
    ),
    (
        "LAMB",
        {"lr": 0.02, "weight_decay": 0.0, "always_adapt": True, "bias_correction": False},
        {"eps": 0.1, "maximize": True},
        lambda w, g: lamb(w, g, 0.02, corrected=False),
        lambda w, g: lamb(w, [-x for x in g], 0.02, eps=0.1, corrected=False),
    ),
    (
        "LARS",
        {"lr": 2.0, "weight_decay": 0.1, "momentum": 0.9},
        {"nesterov": True, "trust_coefficient": 0.02},
        lambda w, g: lars(w, g, 2.0, 0.1, 0.9),
        lambda w, g: lars(w, g, 2.0, 0.1, 0.9, True, 0.02),
    ),
    (
        "LARS",
        {"lr": 0.01, "weight_decay": 0.2, "trust_coefficient": 0.5},
        {"trust_clip": True},
        lambda w, g: lars(w, g, 0.01, 0.2, coefficient=0.5),
        lambda w, g: lars(w, g, 0.01, 0.2, coefficient=0.5, clips=True),
    ),
]


def numbers(dtype):
    generator = np.random.default_rng(1)
    values = [generator.normal(size=shape).astype(dtype) for shape in SHAPES]
    values[1][:] = 0  # whose norm is 0 in the first step
    gradients = [[generator.normal(size=s).astype(dtype) for s in SHAPES] for _ in range(STEPS)]
    return values, gradients


@pytest.mark.parametrize("dtype", ["f4", pytest.param("f8", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join([case[0], *map(str, case[1])]))
def test_thirty_steps_are_those_of_the_papers(case, dtype):
    name, options, other, first, second = case
    values, gradients = numbers(dtype)

    def program():
        parameters = [torch.nn.Parameter(torch.from_numpy(v.copy())) for v in values]
        groups = [{"params": parameters[:2]}, {"params": parameters[2:], **other}]
        optimizer = getattr(dt, name)(groups, **options)
        for each in gradients:
            for parameter, gradient in zip(parameters, each, strict=True):
                parameter.grad = torch.from_numpy(gradient * (0.5 + rank()))  # their mean is the gradient
            optimizer.step()
        return [p.detach().numpy().copy() for p in parameters]

    for found in on_replicas(2, program):
        for i, (value, got) in enumerate(zip(values, found, strict=True)):
            formula = second if i == 2 else first
            want = formula(value.astype("f8"), [each[i].astype("f8") for each in gradients])
            assert got.dtype == value.dtype
            assert np.abs(got - want).max() <= TOLERANCES[value.dtype] * np.abs(want).max()


def test_numbers_that_make_no_sense_are_refused():
    layer = torch.nn.Linear(2, 1)
    with pytest.raises(ValueError, match=r"betas\[1\] of LAMB must be in"):
        dt.LAMB(layer, betas=(0.9, 1.0))
    with pytest.raises(ValueError, match="weight_decay of LARS must be >= 0"):
        dt.LARS(layer, weight_decay=-0.1)
    with pytest.raises(ValueError, match="requires a momentum"):
        dt.LARS(layer, nesterov=True)
    with pytest.raises(TypeError, match="'eps'"):
        dt.LARS(layer, epsilon=0.1)


def test_a_state_goes_on():
    """With the slots of both passes."""

    def train(optimizer, parameter, steps):
        for step in steps:
            parameter.grad = torch.full_like(parameter, 1.0 + step)
            optimizer.step()

    def make(value):
        parameter = torch.nn.Parameter(value.clone())
        return parameter, dt.LARS([parameter], lr=0.5, momentum=0.9, weight_decay=0.1)

    whole, optimizer = make(torch.arange(1.0, 5.0))
    train(optimizer, whole, range(3))
    state, value = optimizer.state_dict(), whole.detach().clone()
    train(optimizer, whole, range(3, 5))
    again, optimizer = make(value)
    optimizer.load_state_dict(state)
    train(optimizer, again, range(3, 5))
    assert torch.equal(again, whole)
