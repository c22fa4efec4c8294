"""Muon and Adafactor: the numbers of ``torch.optim``, with float32 in the place of its Muon's bfloat16."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import distopt.torch as dt  # noqa: E402
from distopt.errors import ReplicaMismatch  # noqa: E402
from tests.pytorch.beside_torch import gradients  # noqa: E402
from tests.replicated import on_replicas, rank  # noqa: E402

pytestmark = pytest.mark.torch

#: Of the largest value. Muon orthogonalizes in float32, whatever the dtype.
TOLERANCE = {"f4": 1e-5, "f8": 1e-10}
MATRICES = [(7, 13), (13, 7), (6, 6)]
SHAPES = [*MATRICES, (5,), (), (3, 2, 4, 5)]
CASES = [
    ("Muon", {}),
    ("Muon", {"lr": 0.02, "nesterov": False, "adjust_lr_fn": "match_rms_adamw", "momentum": 0.5}),
    ("Muon", {"lr": 0.02, "weight_decay": 0.0, "ns_steps": 3, "ns_coefficients": (2.0, -1.5, 0.5)}),
    ("Adafactor", {}),
    ("Adafactor", {"lr": 0.1, "weight_decay": 0.1, "maximize": True, "beta2_decay": -0.5}),
    ("Adafactor", {"lr": 0.1, "eps": (1e-2, 0.5), "d": 2.0}),
]


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """PyTorch's Muon in float32."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x.float().clone())


def shapes(name):
    return MATRICES if name == "Muon" else SHAPES


def parameters(name, dtype="f4"):
    generator = np.random.default_rng(1)
    values = [generator.normal(size=shape).astype(dtype) for shape in shapes(name)]
    return [torch.nn.Parameter(torch.from_numpy(np.array(value))) for value in values]


def train(optimizer, own, name, dtype="f4", steps=range(30)):
    each = [list(gradients(shape, dtype, 30, seed)) for seed, shape in enumerate(shapes(name))]
    for i in steps:
        for parameter, its in zip(own, each):
            parameter.grad = torch.from_numpy(np.array(its[i]))
        optimizer.step()


def assert_close(got, want, bound):
    got, want = np.asarray(got.detach(), "f8"), np.asarray(want.detach(), "f8")
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=bound * np.abs(want).max(initial=0))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_thirty_steps_and_the_state_after_them(name, options, dtype):
    ours, theirs = parameters(name, dtype), parameters(name, dtype)
    own, other = getattr(dt, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    train(own, ours, name, dtype)
    train(other, theirs, name, dtype)
    bound = 1e-5 if name == "Muon" else TOLERANCE[dtype]
    for a, b in zip(ours, theirs):
        assert_close(a, b, bound)
        assert own.state[a].keys() == other.state[b].keys()
        for key, value in other.state[b].items():
            assert own.state[a][key].dtype is value.dtype
            assert_close(own.state[a][key], value, bound)


@pytest.mark.parametrize("name", ["Muon", "Adafactor"])
def test_a_state_goes_from_one_to_the_other_and_back(name):
    ours, theirs, third = parameters(name), parameters(name), parameters(name)
    own, other, last = getattr(dt, name)(ours), getattr(torch.optim, name)(theirs), getattr(dt, name)(third)
    train(own, ours, name, steps=range(3))
    with torch.no_grad():
        for a, b in zip(ours, theirs):
            b.copy_(a)
    other.load_state_dict(copy.deepcopy(own.state_dict()))
    train(other, theirs, name, steps=range(3, 6))
    train(own, ours, name, steps=range(3, 6))
    with torch.no_grad():
        for b, c in zip(theirs, third):
            c.copy_(b)
    last.load_state_dict(copy.deepcopy(other.state_dict()))
    for optimizer, its in ((own, ours), (other, theirs), (last, third)):
        train(optimizer, its, name, steps=range(6, 9))
    for a, b, c in zip(ours, theirs, third):
        assert_close(a, b, 1e-5)
        assert_close(c, b, 1e-5)


def test_parameters_laid_out_otherwise():
    """Rows and columns are the tensor's, wherever they lie in memory."""
    generator = np.random.default_rng(1)
    image = torch.from_numpy(generator.normal(size=(3, 4, 5, 6)).astype("f4"))
    matrix = torch.from_numpy(generator.normal(size=(7, 4)).astype("f4"))
    results = []
    for turned in (False, True):
        one = image.clone(memory_format=torch.channels_last if turned else torch.contiguous_format)
        two = matrix.t().contiguous().t() if turned else matrix.clone()
        own = [torch.nn.Parameter(one), torch.nn.Parameter(two)]
        factored, orthogonal = dt.Adafactor(own, lr=0.1), dt.Muon(own[1:], lr=0.1)
        for parameter, seed in zip(own, (5, 6)):
            noise = np.random.default_rng(seed).normal(size=tuple(parameter.shape)).astype("f4")
            parameter.grad = torch.from_numpy(noise)
        for optimizer in (factored, orthogonal, factored):
            optimizer.step()
        results.append([*own, *(factored.state[own[0]][key] for key in ("row_var", "col_var"))])
    for plain, turned in zip(*results):
        assert_close(turned, plain, 1e-6)


def test_the_numbers_of_all_groups_are_compared():
    """Not only those of the last."""

    def program():
        own = parameters("Muon")
        optimizer = dt.Muon([{"params": own[:1], "lr": 0.1 + rank()}, {"params": own[1:]}])
        with pytest.raises(ReplicaMismatch, match="lr"):
            train(optimizer, own, "Muon", steps=range(1))
        return [p.detach().numpy().tobytes() for p in own]

    untouched = [p.detach().numpy().tobytes() for p in parameters("Muon")]
    assert on_replicas(2, program) == [untouched] * 2


def test_shares_of_replicas():
    """The mean of the replicas' gradients, with the same bits on all of them."""

    def program(replica, replicas):
        own = parameters("Adafactor")
        optimizer = dt.Adafactor(own, lr=0.1)
        for step in range(3):
            for parameter in own:
                shape = tuple(parameter.shape)
                draws = [np.random.default_rng([step, parameter.numel(), r]) for r in range(2)]
                whole = [draw.integers(-8, 8, shape) for draw in draws]
                mine = np.mean(whole, axis=0) if replicas == 1 else whole[replica]
                parameter.grad = torch.from_numpy(np.array(mine, "f4"))
            optimizer.step()
        return [p.detach().numpy().tobytes() for p in own]

    alone = program(0, 1)
    results = on_replicas(2, lambda: program(rank(), 2))
    assert results[0] == results[1] == alone
