"""All replicas begin with replica 0's parameters and buffers, and know parameters by their names."""

import pytest

pytest.importorskip("torch")

import batches
import torch
from replicated import on_replicas, rank
from torch import nn

import distopt.torch
from distopt.errors import ReplicaMismatch

pytestmark = pytest.mark.torch


def normalized():
    """A model with buffers that differ between replicas, as its parameters do."""
    torch.manual_seed(rank())
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    module[1].running_mean.fill_(float(rank()))
    module[1].num_batches_tracked.fill_(5 + rank())
    return module


def values(module):
    return [value.clone() for value in module.state_dict().values()]


GIVEN = {
    "the module": lambda module: module,
    "parameters()": lambda module: module.parameters(),
    "named_parameters()": lambda module: module.named_parameters(),
}


@pytest.mark.parametrize("given", GIVEN)
def test_parameters_and_buffers_are_replica_0s_at_once(replicas, given):
    def program():
        module = normalized()
        before = values(module)
        distopt.torch.SGD(GIVEN[given](module), lr=0.1)
        return before, values(module)

    found = replicas.run(program)
    first = found[0][0]
    assert [len(after) for _, after in found] == [len(first)] * replicas.size
    for _, after in found:
        assert all(map(torch.equal, first, after))


def test_buffers_of_a_module_that_is_found_in_the_forward_pass(replicas):
    """A list of parameters says nothing of their module: that is known at the first step."""

    def program():
        module = normalized()
        optimizer = distopt.torch.SGD(list(module.parameters()), lr=0.0)
        parameters = batches.values(module)
        module.eval()
        module(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        return parameters, values(module)

    found = replicas.run(program)
    for parameters, after in found:
        assert all(map(torch.equal, parameters, found[0][0]))
        assert all(map(torch.equal, after, found[0][1]))
        assert after[4].tolist() == [0.0] * 4  # the running mean


WAYS = {
    "the module": lambda module: module,
    "parameters()": lambda module: module.parameters(),
    "list": lambda module: list(module.parameters()),
    "groups": lambda module: [{"params": list(part.parameters())} for part in (module[2], module[0])],
    "named": lambda module: list(module.named_parameters()),
}


@pytest.mark.parametrize("way", WAYS)
def test_messages_have_the_names_of_the_module(way):
    def program():
        module = batches.model()
        optimizer = distopt.torch.SGD(WAYS[way](module), lr=0.1)
        batches.backward(module)
        if rank() == 1:
            module[2].bias.data.zero_()
        with pytest.raises(ReplicaMismatch, match=r"2\.bias assigned since the last step"):
            optimizer.step()

    on_replicas(2, program)


def test_names_are_found_although_one_replica_begins_without_examples():
    def program():
        module = normalized()
        optimizer = distopt.torch.SGD(list(module.parameters()), lr=0.1, unused="zero")
        for step in range(3):
            optimizer.zero_grad()
            if rank() == 0 or step > 0:
                module(torch.ones(2, 3) + step).sum().backward()
            optimizer.step()
        if rank() == 1:
            module[2].bias.data.zero_()
        with pytest.raises(ReplicaMismatch, match=r"2\.bias assigned since the last step"):
            optimizer.step()

    on_replicas(2, program)


def test_parameters_of_no_module_are_numbered():
    def program():
        a, b = (nn.Parameter(torch.ones(n)) for n in (2, 3))
        optimizer = distopt.torch.SGD([a, b], lr=0.1)
        (a.sum() + b.sum()).backward()
        if rank() == 1:
            b.data.zero_()
        with pytest.raises(ReplicaMismatch, match="parameter 1 assigned since the last step"):
            optimizer.step()

    on_replicas(2, program)


def test_tied_weights_and_weights_in_parts_of_the_model(replicas):
    def program():
        module = batches.model(seed=rank())
        module.add_module("3", nn.Linear(2, 5, bias=False))
        module[3].weight = module[0].weight if module[0].weight.shape == (5, 2) else module[3].weight
        head = distopt.torch.SGD(module[3:].parameters(), lr=0.1)
        body = distopt.torch.SGD(module[:3].parameters(), lr=0.1)
        module(torch.ones(2, 3)).sum().backward()
        head.step()
        body.step()
        return batches.values(module)

    found = replicas.run(program)
    batches.assert_same_everywhere(found)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.Linear(2, 2, device="meta"), "'weight' is on the meta device, which has no memory"),
        (
            lambda: [nn.Parameter(torch.ones(2, dtype=torch.complex64))],
            "'parameter 0' has dtype torch.complex64",
        ),
        (lambda: [torch.ones(2, dtype=torch.int64)], "'parameter 0' has dtype torch.int64"),
        (lambda: [torch.eye(2).to_sparse().requires_grad_()], "'parameter 0' is sparse"),
    ],
)
def test_parameters_that_cannot_be_trained_here(replicas, make, text):
    def program():
        with pytest.raises(ValueError, match=text):
            distopt.torch.SGD(make(), lr=0.1)
        module = batches.model()  # the job is as good as before
        optimizer = distopt.torch.SGD(module, lr=0.1)
        batches.backward(module)
        optimizer.step()
        return batches.values(module)

    wanted = batches.beside(lambda p: torch.optim.SGD(p, lr=0.1), steps=1)
    batches.assert_close(replicas.run(program)[0], wanted)
