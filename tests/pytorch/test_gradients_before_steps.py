"""Gradients between backward() and step(): aggregated, clipped, added up, and a warning."""

import logging

import pytest

pytest.importorskip("torch")

import batches
import torch
from replicated import on_replicas

import distopt.torch

pytestmark = pytest.mark.torch


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.1)


def clipped(module):
    torch.nn.utils.clip_grad_norm_(module.parameters(), 0.05)


def test_aggregate_then_clip_then_step(replicas):
    def program():
        module = batches.model()
        optimizer = distopt.torch.Adam(module, lr=0.1)
        norms = []
        for step in range(3):
            optimizer.zero_grad()
            batches.backward(module, step)
            optimizer.aggregate()
            norms.append(float(torch.nn.utils.clip_grad_norm_(module.parameters(), 0.05)))
            optimizer.step()
        return batches.values(module), norms

    found = replicas.run(program)
    wanted = batches.beside(adam, around=clipped)
    batches.assert_same_everywhere([values for values, _ in found])
    batches.assert_close(found[0][0], wanted)
    assert all(norms == found[0][1] for _, norms in found)


def warnings_of(caplog, between, steps=3, replicas=2):
    """What is logged in some steps with something between backward() and step()."""

    def program():
        module = batches.model()
        optimizer = distopt.torch.Adam(module, lr=0.1)
        for step in range(steps):
            batches.backward(module, step)
            between(module, optimizer)
            optimizer.step()
            optimizer.zero_grad(set_to_none=step % 2 == 0)

    with caplog.at_level(logging.WARNING, "distopt"):
        on_replicas(replicas, program)
    return [record.getMessage() for record in caplog.records]


def clip_alone(module, optimizer):
    torch.nn.utils.clip_grad_norm_(module.parameters(), 0.1)


def clip_aggregated(module, optimizer):
    optimizer.aggregate()
    clip_alone(module, optimizer)


def accumulate(module, optimizer):
    with optimizer.no_sync():
        batches.backward(module, 10)
    batches.backward(module, 11)


def begin_anew(module, optimizer):
    module.zero_grad(set_to_none=False)


def look(module, optimizer):
    return [p.grad.norm() for p in module.parameters()]


def test_clipping_each_replicas_gradients_is_warned_of_once(caplog):
    (message,) = warnings_of(caplog, clip_alone)
    assert message.startswith("the gradients of Adam were changed between backward() and step()")
    assert "optimizer.aggregate()" in message


@pytest.mark.parametrize("between", [clip_aggregated, accumulate, begin_anew, look])
def test_no_warning(caplog, between):
    assert warnings_of(caplog, between) == []


def test_one_replica_may_clip_as_it_likes(caplog):
    assert warnings_of(caplog, clip_alone, replicas=1) == []


def test_gradients_add_up_in_no_sync(replicas):
    def program():
        module = batches.model()
        optimizer = distopt.torch.Adam(module, lr=0.1)
        with optimizer.no_sync():
            batches.backward(module, 0)
            with pytest.raises(RuntimeError, match=r"step\(\) within no_sync"):
                optimizer.step()
        batches.backward(module, 1)
        optimizer.step()
        return batches.values(module)

    module = batches.model()
    optimizer = adam(module.parameters())
    for step in range(2):
        batches.loss(module, *batches.batch(step)).backward()
    optimizer.step()
    for found in replicas.run(program):
        batches.assert_close(found, batches.values(module))
