"""Data whose length is not known, and not the same on all replicas."""

import collections

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from replicated import on_replicas, rank  # noqa: E402
from torch.utils.data import DataLoader, IterableDataset  # noqa: E402

import distopt.torch as dt  # noqa: E402
from distopt.errors import ReplicaFailed, ReplicaMismatch  # noqa: E402
from tests.pytorch.same_program import assert_close, kept  # noqa: E402

pytestmark = pytest.mark.torch
X = torch.randn(23, 4, generator=torch.Generator().manual_seed(0))
Y = X.sum(dim=1, keepdim=True)
#: Where each of three replicas finds its examples.
PARTS = [range(11), range(11, 12), range(12, 23)]


class Stream(IterableDataset):
    """Some examples, one after the other."""

    def __init__(self, part):
        self.part = part

    def __iter__(self):
        return ((X[i], Y[i]) for i in self.part)


def model():
    torch.manual_seed(0)
    layers = torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6).eval(), torch.nn.Tanh(), torch.nn.Linear(6, 1)
    return torch.nn.Sequential(*layers)


@pytest.mark.parametrize("workers", [0, 1])
def test_unequal_streams_train_on_all_examples_as_one_process_does(workers):
    """With Adam, whose steps after the last example of a replica would show any wrong weight."""
    size = 4

    def program():
        net = model()
        optimizer = dt.Adam(net, lr=0.05, clip_grad_norm=1.0)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        sizes = []
        for _ in range(2):
            for x, y in dt.join(DataLoader(Stream(PARTS[rank()]), size, num_workers=workers)):
                optimizer.zero_grad()
                torch.nn.functional.mse_loss(net(x), y).backward()
                optimizer.step(examples=len(x))
                schedule.step()
                sizes.append(len(x))
        return sizes, kept(net)

    (first, found), (second, other), (third, another) = on_replicas(3, program)
    assert [first, second, third] == [[4, 4, 3] * 2, [1, 0, 0] * 2, [4, 4, 3] * 2]
    net = model()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    for k in [0, 1, 2] * 2:
        batch = [i for part in PARTS for i in part[size * k : size * (k + 1)]]
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(net(X[batch]), Y[batch]).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    for values in (found, other, another):
        assert_close(values, kept(net), {torch.float32: 1e-5})
    assert_close(found, other, {torch.float32: 0})


def test_the_nan_of_no_examples_is_no_reason_to_leave_a_scaled_step_out():
    def program():
        net = model()
        optimizer, scaler = dt.SGD(net, lr=0.1), torch.amp.GradScaler("cpu", init_scale=4.0)
        weights = [net[0].weight.detach().clone()]
        for x, y in dt.join([(X[:4], Y[:4])] * (1 + rank())):
            optimizer.zero_grad()
            scaler.scale(torch.nn.functional.mse_loss(net(x), y)).backward()
            scaler.step(optimizer, examples=len(x))
            scaler.update()
            weights.append(net[0].weight.detach().clone())
        return weights

    first, second = on_replicas(2, program)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert len(first) == 3
    assert (first[2] - first[1]).abs().max() > 1e-3
    assert first[2].isfinite().all()


def test_a_stream_that_ends_first_is_an_error_without_join():
    def program():
        net = model()
        optimizer = dt.Adam(net)
        for x, y in DataLoader(Stream(PARTS[rank()]), 4):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(net(x), y).backward()
            optimizer.step(examples=len(x))

    with pytest.raises(ReplicaMismatch, match="replica 1 has ended its program"):
        on_replicas(3, program)


def test_empty_batches_have_the_structure_of_full_ones():
    pair = collections.namedtuple("pair", "x name")
    batch = {
        "x": torch.ones(3, 2),
        "pairs": [pair(torch.ones(3, dtype=torch.int64), ["a", "b", "c"])],
        "array": np.ones((3, 1), np.float32),
        "all": (torch.tensor(5.0), 1, None, "text"),
    }

    def program():
        return list(dt.join([batch] * (1 + rank())))

    (first, empty), (_, second) = on_replicas(2, program)
    assert first is second is batch
    assert (empty["x"].shape, empty["array"].shape, empty["array"].dtype) == ((0, 2), (0, 1), np.float32)
    assert isinstance(empty["pairs"][0], pair)
    assert (empty["pairs"][0].x.shape, empty["pairs"][0].x.dtype) == ((0,), torch.int64)
    assert empty["pairs"][0].name == []
    assert empty["all"] == batch["all"]
    assert list(dt.join([1, 2])) == [1, 2]


@pytest.mark.parametrize(
    ("batches", "kind", "text"),
    [
        ([], ValueError, "its loader yielded none"),
        ([object()], TypeError, "cannot make an empty batch of a object"),
    ],
)
def test_what_cannot_be_emptied_is_an_error_on_all_replicas(batches, kind, text):
    def program():
        try:
            return list(dt.join(batches if rank() else [1, 2, 3]))
        except (ReplicaFailed, kind) as error:
            return error

    first, second = on_replicas(2, program)
    assert type(first) is ReplicaFailed
    assert "because replica 1 of 2 failed" in str(first)
    assert type(second) is kind
    assert text in str(second)


def test_a_loader_that_fails_ends_the_others_too():
    def broken():
        yield 1
        raise LookupError("why")

    def program():
        try:
            return list(dt.join(broken() if rank() else [1, 2, 3]))
        except (ReplicaFailed, LookupError) as error:
            return error

    first, second = on_replicas(2, program)
    assert type(first) is ReplicaFailed
    assert "LookupError: why" in str(first)
    assert type(second) is LookupError
