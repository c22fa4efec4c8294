"""Batch norm over the batch on all replicas: what PyTorch's makes of the whole batch on one."""

import pytest

torch = pytest.importorskip("torch")

from replicated import on_replicas, rank  # noqa: E402
from torch import nn  # noqa: E402

import distopt.torch as dt  # noqa: E402
from distopt.errors import ReplicaFailed, ReplicaMismatch  # noqa: E402

pytestmark = pytest.mark.torch
#: Where the shares of 9 examples begin; one of 4 replicas has none.
CUTS = {1: [0, 9], 2: [0, 2, 9], 4: [0, 2, 2, 8, 9]}
#: Of the largest value among all gradients, or of an output's.
TOLERANCES = {torch.float64: 1e-12, torch.float32: 5e-6}


def network(dtype=torch.float64):
    """Batch norms of all kinds; two of its layers are one module."""
    torch.manual_seed(0)
    shared = nn.BatchNorm2d(3, eps=1e-3)
    made = nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), shared, nn.Tanh(), nn.Conv2d(3, 3, 2), shared),
        nn.Softplus(),
        nn.Unflatten(2, (1, 4)),
        nn.BatchNorm3d(3, affine=False, momentum=None),
        nn.Flatten(2),
        nn.BatchNorm1d(3, track_running_stats=False),
        nn.Flatten(),
        nn.Linear(48, 4),
        nn.BatchNorm1d(4, momentum=0.3),
        nn.Tanh(),
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += torch.randn(parameter.shape) / 4
    return made.to(dtype)


def passes(made, dtype):
    """Outputs, input gradients, gradients of parameters, and second derivatives; of all replicas together."""
    whole = torch.randn(9, 2, 5, 5, generator=torch.Generator().manual_seed(1), dtype=dtype) + 3
    begin, end = CUTS[dt.size()][rank() : rank() + 2]
    x = whole[begin:end].clone().requires_grad_()
    parameters = list(made.parameters())
    y = made(x)
    loss = (y * torch.linspace(1, 2, 4, dtype=dtype)).sin().sum()
    to_x, *first = torch.autograd.grad(loss, [x, *parameters], create_graph=True)
    first = dt.all_reduce(first)
    square = (to_x**2).sum() + sum((g**2).sum() for g in first) / dt.size()
    second = torch.autograd.grad(square, [x, *parameters])
    joined = dt.all_gather([y.detach(), to_x.detach(), second[0]])
    return joined, [g.detach() for g in first], dt.all_reduce(list(second[1:])), list(made.buffers())


def assert_close(found, expected, dtype):
    largest = max(float(e.abs().max()) for e in expected)
    for f, e in zip(found, expected, strict=True):
        assert f.dtype == e.dtype
        torch.testing.assert_close(f, e, rtol=0, atol=TOLERANCES[dtype] * largest)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_as_one_replica_on_the_whole_batch(dtype):
    """With shares of different sizes, and no example on one of them."""

    def program():
        made = dt.convert_sync_batchnorm(network(dtype))
        return passes(made, dtype)

    expected = on_replicas(1, lambda: passes(network(dtype), dtype))[0]
    for size in CUTS:
        found = on_replicas(size, program)
        for part, wanted in zip(found[0], expected, strict=True):
            assert_close(part, wanted, dtype)
        for other in found[1:]:
            assert all(map(torch.equal, other[3], found[0][3]))


def test_a_mean_that_is_large_beside_the_deviation():
    """Sums of squares less the squared mean would keep no digit of the variance in float32."""
    whole = torch.randn(64, 3, generator=torch.Generator().manual_seed(2)) + 4096

    def program():
        norm = dt.SyncBatchNorm(3, momentum=1.0)
        norm(whole.tensor_split([13])[rank()])
        return norm.running_mean, norm.running_var

    exact = whole.double()
    for mean, variance in on_replicas(2, program):
        torch.testing.assert_close(mean.double(), exact.mean(0), rtol=1e-7, atol=0)
        torch.testing.assert_close(variance.double(), exact.var(0), rtol=1e-6, atol=0)


@pytest.mark.parametrize("kept", [torch.float32, torch.bfloat16])
def test_bfloat16_is_added_up_in_float32(kept):
    """As under autocast, where parameters stay float32, and with a model that is bfloat16 throughout."""
    whole = torch.randn(16, 3, 4, generator=torch.Generator().manual_seed(3)).bfloat16()

    def program(kind):
        norm = kind(3).to(kept)
        mine = whole.tensor_split(dt.size())[rank()].clone().requires_grad_()
        y = norm(mine)
        (y * torch.arange(4)).sum().backward()
        return y, mine.grad, dt.all_reduce(norm.weight.grad), norm.running_var

    expected = on_replicas(1, lambda: program(nn.BatchNorm1d))[0]
    first, second = on_replicas(2, lambda: program(dt.SyncBatchNorm))
    found = torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]]), *first[2:]
    for f, e in zip(found, expected, strict=True):
        assert f.dtype is e.dtype
        torch.testing.assert_close(f.float(), e.float(), rtol=2**-6, atol=2**-6)


def test_a_single_replica_may_evaluate():
    """Nothing is exchanged in eval(), where it is PyTorch's own batch norm, nor for the state."""

    def program():
        made, plain = dt.convert_sync_batchnorm(network()), network()
        x = torch.ones(4, 2, 5, 5, dtype=torch.float64)
        made(x * (1 + rank() * torch.rand(4, 1, 5, 5, dtype=torch.float64)))
        if rank() == 0:
            plain.load_state_dict(made.state_dict())
            assert torch.equal(made.eval()(x), plain.eval()(x))
            made.train()
        made(x)  # with all replicas again

    on_replicas(2, program)


# -- converting
def test_conversion_keeps_what_there_is():
    made = network()
    made[0][1].eval()
    calls = []
    made[3].register_forward_hook(lambda *_: calls.append(1))
    before, names = dict(made.named_parameters()), list(made.state_dict())
    buffers = dict(made.named_buffers())
    assert dt.convert_sync_batchnorm(made) is made
    assert dict(made.named_parameters()).items() == before.items()  # compared by identity
    assert all(buffers[name] is buffer for name, buffer in made.named_buffers())
    assert list(made.state_dict()) == names
    norms = [m for m in made.modules() if isinstance(m, dt.SyncBatchNorm)]
    assert [m.training for m in norms] == [False, True, True, True]
    assert made[0][1] is made[0][4]
    assert not any(isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)) for m in made.modules())
    made(torch.ones(2, 2, 5, 5, dtype=torch.float64))
    assert calls == [1]
    assert str(norms[0]).startswith("SyncBatchNorm(3, eps=0.001, momentum=0.1, affine=True")


def test_conversion_of_a_batch_norm_itself():
    plain = nn.SyncBatchNorm(3)
    made = dt.convert_sync_batchnorm(plain)
    assert type(made) is dt.SyncBatchNorm
    assert made.weight is plain.weight
    assert dt.convert_sync_batchnorm(made) is made


class Activated(nn.BatchNorm1d):
    def forward(self, x):
        return super().forward(x).relu()


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: nn.LazyBatchNorm1d(), ValueError, r"1 \(LazyBatchNorm1d\) does not have its shape yet"),
        (lambda: Activated(3), TypeError, r"1 \(test_sync_batch_norm.Activated\) does more than"),
        (
            lambda: nn.utils.parametrizations.weight_norm(nn.BatchNorm1d(3), dim=None),
            TypeError,
            "does more than",
        ),
    ],
    ids=["lazy", "derived", "parametrized"],
)
def test_conversion_refuses_what_it_would_lose(make, error, text):
    made = nn.Sequential(nn.BatchNorm1d(3), make())
    with pytest.raises(error, match=text):
        dt.convert_sync_batchnorm(made)
    assert type(made[0]) is nn.BatchNorm1d


# -- errors
def caught(program):
    def run():
        with pytest.raises((ValueError, ReplicaFailed, ReplicaMismatch)) as raised:
            program()
        return type(raised.value), str(raised.value)

    return on_replicas(2, run)


def test_one_value_on_all_replicas_together():
    for count in (0, 1):
        found = caught(lambda count=count: dt.SyncBatchNorm(3)(torch.ones(count * (1 - rank()), 3)))
        assert found == [found[0]] * 2
        assert found[0][0] is ValueError
        assert f"expected more than 1 value per channel when training, got {count} on all" in found[0][1]


def test_another_shape_on_one_replica():
    (kind, text), (other, told) = caught(lambda: dt.SyncBatchNorm(3)(torch.ones(2, 3 + rank())))
    assert (kind, other) == (ReplicaFailed, ValueError)
    assert "SyncBatchNorm(3) takes inputs of shape [examples, 3, ...]; got [2, 4]" in told
    assert told in text


def test_other_modules_on_one_replica():
    for kind, text in caught(lambda: dt.SyncBatchNorm(3 + rank())(torch.ones(2, 3 + rank()))):
        assert kind is ReplicaMismatch
        assert "forward() at test_sync_batch_norm.py" in text or "SyncBatchNorm(4)" in text


def test_a_backward_pass_on_one_replica_only():
    def program():
        y = dt.SyncBatchNorm(3)(torch.randn(4, 3, requires_grad=True))
        if rank() == 0:
            y.sum().backward()
        else:
            dt.all_reduce(1.0)

    for kind, text in caught(program):
        assert kind is ReplicaMismatch
        assert "test_sync_batch_norm.py" in text
    print(text)
