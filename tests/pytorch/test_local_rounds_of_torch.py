"""distopt.torch.LocalSGD and DiLoCo: 2 pretended nodes of 2 replicas, beside PyTorch's own optimizers."""

from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import distopt.torch as dt  # noqa: E402
from distopt.checkpoint import CheckpointManager  # noqa: E402
from tests.replicated import on_replicas, rank  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def nodes(monkeypatch):
    monkeypatch.setenv("DISTOPT_NODES", "2")


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()


def loss(net, step, replica):
    x = torch.from_numpy(np.random.default_rng(100 * step + replica).normal(size=(5, 3)))
    return (net(x) - x.sum(1, keepdim=True)).square().mean()


def make(kind, net):
    inner = dt.Adam(net.parameters(), lr=0.05)
    return dt.LocalSGD(inner, every=3) if kind == "LocalSGD" else dt.DiLoCo(inner, every=3)


def train(kind, first=0, last=7, folder=None):
    net = model()
    optimizer = make(kind, net)
    if folder is not None:
        manager = CheckpointManager(str(folder), model=net, optimizer=optimizer)
        assert manager.restore() == (first > 0)
    for step in range(first, last):
        optimizer.zero_grad()
        loss(net, step, rank()).backward()
        optimizer.step()
    if folder is not None:
        manager.save()
    return {name: value.clone() for name, value in net.state_dict().items()}


def reference(kind, last=7):
    """The two nodes, by PyTorch alone."""
    nets = [model() for _ in range(2)]
    inner = [torch.optim.Adam(net.parameters(), lr=0.05) for net in nets]
    anchors = [torch.nn.Parameter(p.detach().clone()) for p in nets[0].parameters()]
    outer = torch.optim.SGD(anchors, lr=0.7, momentum=0.9, nesterov=True)
    for step in range(last):
        for node, (net, optimizer) in enumerate(zip(nets, inner, strict=True)):
            optimizer.zero_grad()
            (sum(loss(net, step, r) for r in (2 * node, 2 * node + 1)) / 2).backward()
            optimizer.step()
        if (step + 1) % 3:
            continue
        with torch.no_grad():
            for anchor, *own in zip(anchors, *(net.parameters() for net in nets), strict=True):
                mean = sum(own) / 2
                anchor.grad = anchor - mean
                if kind == "LocalSGD":
                    anchor.copy_(mean)
            if kind == "DiLoCo":
                outer.step()
            for net in nets:
                for p, anchor in zip(net.parameters(), anchors, strict=True):
                    p.copy_(anchor)
    return [net.state_dict() for net in nets]


@pytest.mark.parametrize("kind", ["LocalSGD", "DiLoCo"])
def test_parameters_are_those_of_pytorch(kind):
    found, expected = on_replicas(4, partial(train, kind)), reference(kind)
    for replica in range(4):
        for name, value in expected[replica // 2].items():
            np.testing.assert_allclose(found[replica][name], value, rtol=1e-11, atol=1e-13)
    assert not torch.equal(found[0]["0.weight"], found[2]["0.weight"])


@pytest.mark.parametrize("kind", [pytest.param("LocalSGD", marks=pytest.mark.slow), "DiLoCo"])
def test_a_run_from_the_middle_of_a_round_has_the_same_bits(kind, tmp_path):
    whole = on_replicas(4, partial(train, kind))
    on_replicas(4, partial(train, kind, 0, 4, tmp_path))
    parts = on_replicas(4, partial(train, kind, 4, 7, tmp_path))
    for replica in range(4):
        for name, value in whole[replica].items():
            assert torch.equal(parts[replica][name], value)


def test_on_other_nodes_a_run_begins_with_the_mean(tmp_path, monkeypatch):
    before = on_replicas(4, partial(train, "DiLoCo", 0, 4, tmp_path))
    monkeypatch.setenv("DISTOPT_NODES", "1")

    def program():
        net = model()
        optimizer = make("DiLoCo", net)
        CheckpointManager(str(tmp_path), model=net, optimizer=optimizer).restore()
        optimizer.param_groups[0]["lr"] = 0.0
        optimizer.zero_grad(set_to_none=False)
        loss(net, 0, rank()).backward()
        optimizer.step()
        return {name: value.clone() for name, value in net.state_dict().items()}

    for found in on_replicas(4, program):
        for name, value in found.items():
            torch.testing.assert_close(value, (before[0][name] + before[2][name]) / 2)


def test_schedulers_edits_and_an_exchange_at_will():
    def program():
        net = model()
        optimizer = dt.LocalSGD(dt.SGD(net, lr=0.5), every=10)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
        loss(net, 0, rank()).backward()
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            net[0].bias.fill_(rank() // 2)  # alike on a node
        optimizer.exchange()
        return optimizer.inner.param_groups[0]["lr"], net[0].bias.tolist(), net[2].bias.tolist()

    found = on_replicas(4, program)
    assert found[0][:2] == (0.05, [0.5] * 4)
    assert all(one == found[0] for one in found)


def test_one_replica_alone():
    net, twin = model(), model()
    optimizer, outer = dt.DiLoCo(dt.SGD(net, lr=0.5), every=2), torch.optim.SGD(twin.parameters(), lr=0.5)
    for step in range(2):
        for one, each in ((net, optimizer), (twin, outer)):
            each.zero_grad()
            loss(one, step, 0).backward()
            each.step()
    for start, p, q in zip(model().parameters(), net.parameters(), twin.parameters(), strict=True):
        # The first step of Nesterov momentum: 1.9 times the gradient.
        torch.testing.assert_close(p.detach(), start.detach() - 0.7 * 1.9 * (start - q).detach())


def test_by_default_differences_travel_as_bfloat16():
    """bfloat16 has no number between 1 and 1 + 2^-7."""

    def program():
        p = torch.nn.Parameter(torch.zeros(3, 4))
        optimizer = dt.DiLoCo(dt.SGD([p], lr=1.0), every=1)
        p.grad = torch.full((3, 4), 1 + 2**-10)
        optimizer.step()
        assert "now -> mean(wire='bf16') over 4 replicas -> SGD" in optimizer.describe()
        return p.detach().clone()

    for p in on_replicas(4, program):
        torch.testing.assert_close(p, torch.full((3, 4), -0.7 * 1.9))


def test_wrong_arguments():
    net = model()
    with pytest.raises(TypeError, match=r"inner must be an optimizer of distopt\.torch"):
        dt.LocalSGD(torch.optim.SGD(net.parameters(), lr=0.1), every=2)
    with pytest.raises(ValueError, match=r"the aggregator of inner is .*sum"):
        dt.LocalSGD(dt.SGD(net, lr=0.1, aggregator="sum"), every=2)
    with pytest.raises(TypeError, match="outer must be a function"):
        dt.DiLoCo(dt.SGD(net, lr=0.1), outer=dt.SGD(net, lr=0.1))
    with pytest.raises(TypeError, match="outer must make an optimizer"):
        dt.DiLoCo(dt.SGD(net, lr=0.1), outer=list)
