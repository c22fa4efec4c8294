"""torch.amp.GradScaler: a step that one replica leaves out, all leave out."""

import pytest

pytest.importorskip("torch")

import batches
import torch
from replicated import on_replicas, rank

import distopt.torch
from distopt.errors import ReplicaMismatch

pytestmark = pytest.mark.torch

MAKERS = {
    "own": lambda module: distopt.torch.Adam(module, lr=0.1),
    "wrapped": lambda module: distopt.torch.DistributedOptimizer(
        torch.optim.Adam(module.parameters(), lr=0.1)
    ),
}


def train(module, optimizer, backward, spoil=None, unscaled=None, steps=3):
    """Steps under a scaler."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(steps):
        optimizer.zero_grad()
        scaler.scale(backward(step)).backward()
        if spoil is not None:
            spoil(module, step)
        if unscaled is not None:
            scaler.unscale_(optimizer)
            unscaled(module, optimizer)
        scaler.step(optimizer)
        scaler.update()
    return batches.values(module)


def share(module):
    size = distopt.torch.size()

    def loss(step):
        return batches.loss(module, *(part.chunk(size)[rank()] for part in batches.batch(step)))

    return loss


def beside(skipped=(), around=None):
    """PyTorch on the whole batch, without a scaler."""
    module = batches.model()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for step in range(3):
        if step not in skipped:
            optimizer.zero_grad()
            batches.loss(module, *batches.batch(step)).backward()
            if around is not None:
                around(module)
            optimizer.step()
    return batches.values(module)


@pytest.mark.parametrize("kind", MAKERS)
def test_steps_are_those_without_a_scaler(replicas, kind):
    def program():
        module = batches.model()
        return train(module, MAKERS[kind](module), share(module))

    found = replicas.run(program)
    batches.assert_same_everywhere(found)
    batches.assert_close(found[0], beside())


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("unscale", [False, True])
def test_infinity_on_one_replica_leaves_the_step_out_on_all(replicas, kind, unscale):
    last = replicas.size - 1

    def spoil(module, step):
        if step == 1 and rank() == last:
            module[0].bias.grad[2] = torch.inf

    def program():
        module = batches.model()
        unscaled = (lambda module, optimizer: None) if unscale else None
        return train(module, MAKERS[kind](module), share(module), spoil, unscaled)

    found = replicas.run(program)
    batches.assert_same_everywhere(found)
    batches.assert_close(found[0], beside(skipped=[1]))


def test_gradients_are_clipped_between_unscale_and_step(replicas):
    def unscaled(module, optimizer):
        optimizer.aggregate()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 0.05)

    def program():
        module = batches.model()
        return train(module, distopt.torch.Adam(module, lr=0.1), share(module), unscaled=unscaled)

    found = replicas.run(program)
    batches.assert_same_everywhere(found)
    clip = torch.nn.utils.clip_grad_norm_
    batches.assert_close(found[0], beside(around=lambda module: clip(module.parameters(), 0.05)))


def test_no_gradient_is_changed_by_a_scaler_in_the_eyes_of_the_warning(caplog):
    def program():
        module = batches.model()
        for unscaled in (None, lambda module, optimizer: None):
            train(module, distopt.torch.Adam(module, lr=0.1), share(module), unscaled=unscaled)

    on_replicas(2, program)
    assert caplog.records == []


def test_one_replica_without_a_scaler():
    def program():
        module = batches.model()
        optimizer = distopt.torch.Adam(module, lr=0.1)
        scaler = torch.amp.GradScaler("cpu", enabled=rank() == 0)
        scaler.scale(share(module)(0)).backward()
        with pytest.raises(ReplicaMismatch, match=r"Adam under a GradScaler at test_grad_scaler\.py:"):
            scaler.step(optimizer)

    on_replicas(2, program)


def test_rows_that_come_twice_are_unscaled_too():
    from distopt.torch.aggregation import unscale

    rows = torch.sparse_coo_tensor([[0, 0, 2]], torch.ones(3, 2) * 8, (4, 2), check_invariants=True)
    unscale([rows], torch.tensor(4.0))
    assert rows.to_dense()[:, 0].tolist() == [4.0, 0.0, 2.0, 0.0]
