"""What a program writes to parameters between steps counts if all replicas write it, and is an error else."""

import pytest

pytest.importorskip("torch")

import batches
import torch
from replicated import on_replicas, rank

import distopt.torch
from distopt.errors import ReplicaMismatch

pytestmark = pytest.mark.torch


def clamp(module):
    module[0].weight.data.clamp_(-0.1, 0.1)


def scale(module):
    with torch.no_grad():
        module[0].weight.mul_(0.5)


def initialize(module):
    torch.nn.init.constant_(module[0].weight, 0.25)


def load(module):
    state = module.state_dict()
    module.load_state_dict({name: value + 1 for name, value in state.items()})


def replace(module):
    module[0].weight.data = torch.full((5, 3), 0.75)


def one_element(module):
    module[0].weight.data[2, 1] = 3.0


def not_a_number(module):
    module[0].weight.data[0, 0] = torch.nan


def frozen(module):
    module[2].bias.requires_grad_(False)
    module[2].bias.data.add_(1.0)
    module[2].bias.grad = None


def unused(module):
    module[2].bias.data.add_(1.0)
    module[2].bias.grad = None


EDITS = [clamp, scale, initialize, load, replace, one_element, not_a_number, frozen, unused]
#: Which parameter an edit of one replica alone is said to have changed.
NAMES = {frozen: "2.bias", unused: "2.bias"}


def trained(optimizer, module, edit, steps=3):
    """Steps with an edit before the second one."""
    for step in range(steps):
        optimizer.zero_grad()
        batches.backward(module, step)
        if step == 1:
            edit(module)
        optimizer.step()
    return batches.values(module)


@pytest.mark.parametrize("edit", EDITS)
def test_edits_of_all_count_once(edit, replicas):
    def program():
        module = batches.model()
        return trained(distopt.torch.AdamW(module, lr=0.1), module, edit)

    found = replicas.run(program)
    module = batches.model()
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        batches.loss(module, *batches.batch(step)).backward()
        if step == 1:
            edit(module)
        optimizer.step()
    wanted = batches.values(module)
    assert all(map(torch.equal, map(torch.isnan, found[0]), map(torch.isnan, wanted)))
    batches.assert_close([v.nan_to_num() for v in found[0]], [v.nan_to_num() for v in wanted])
    batches.assert_same_everywhere([[v.nan_to_num() for v in result] for result in found])


@pytest.mark.parametrize("differently", [False, True], ids=["one replica", "differently"])
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_that_replicas_do_not_share(edit, differently):
    """It is an error, before which nobody else sees it; once it is taken back, the program goes on."""

    def program():
        module = batches.model()
        optimizer = distopt.torch.AdamW(module, lr=0.1)
        batches.backward(module)
        optimizer.step()
        before = batches.values(module)
        optimizer.zero_grad()
        batches.backward(module, 1)
        gradients = [p.grad.clone() for p in module.parameters()]
        if rank() == 1:
            edit(module)
            if differently:
                module[0].bias.data.add_(1.0)
        elif differently:
            edit(module)
        elif edit in (frozen, unused):
            module[2].bias.grad = None
        seen = batches.values(module)
        with pytest.raises(ReplicaMismatch) as raised:
            optimizer.step()
        unchanged = [
            torch.equal(a.nan_to_num(), b.nan_to_num())
            for a, b in zip(seen, batches.values(module), strict=True)
        ]
        for parameter, value, gradient in zip(module.parameters(), before, gradients, strict=True):
            parameter.data.copy_(value)
            parameter.requires_grad_()
            parameter.grad = gradient
        optimizer.step()
        alone = rank() == 1 or differently or all(map(torch.equal, seen, before))
        return str(raised.value), unchanged, alone, batches.values(module)

    messages, unchanged, alone, found = zip(*on_replicas(2, program), strict=True)
    assert messages[0] == messages[1]
    name = "0.bias" if differently else NAMES.get(edit, "0.weight")
    line = next(line for line in messages[0].splitlines() if "replica 1:" in line)
    assert f"{name} assigned since the last step" in line
    assert "test_edits_between_steps.py:" in line
    assert all(map(all, unchanged))
    assert all(alone)
    batches.assert_same_everywhere(found)
    batches.assert_close(found[0], batches.beside(lambda p: torch.optim.AdamW(p, lr=0.1), steps=2))


def test_an_edit_of_parameters_and_of_the_state_in_one_step(replicas):
    def edit(module, optimizer):
        module[0].weight.data.mul_(2.0)
        optimizer.state[module[0].weight]["exp_avg"].zero_()
        optimizer.state[module[2].bias]["step"].fill_(7.0)

    def run(module, optimizer, backward):
        backward(module, 0)
        optimizer.step()
        edit(module, optimizer)
        optimizer.zero_grad()
        backward(module, 1)
        optimizer.step()
        return batches.values(module)

    def program():
        module = batches.model()
        return run(module, distopt.torch.Adam(module, lr=0.1), batches.backward)

    module = batches.model()
    whole = run(
        module,
        torch.optim.Adam(module.parameters(), lr=0.1),
        lambda m, step: batches.loss(m, *batches.batch(step)).backward(),
    )
    for found in replicas.run(program):
        batches.assert_close(found, whole)


@pytest.mark.parametrize("what", ["exp_avg", "step"])
def test_an_edit_of_one_replicas_state(what):
    def program():
        module = batches.model()
        optimizer = distopt.torch.Adam(module, lr=0.1)
        batches.backward(module)
        optimizer.step()
        optimizer.zero_grad()
        batches.backward(module, 1)
        entry = optimizer.state[module[0].weight]
        kept = entry[what].clone()
        if rank() == 1:
            entry[what].add_(1.0)
        with pytest.raises(ReplicaMismatch, match=r"0\.weight" if what == "exp_avg" else "step="):
            optimizer.step()
        optimizer.state[module[0].weight][what].copy_(kept)
        optimizer.step()
        return batches.values(module)

    found = on_replicas(2, program)
    batches.assert_same_everywhere(found)
    batches.assert_close(found[0], batches.beside(lambda p: torch.optim.Adam(p, lr=0.1), steps=2))


def test_an_edit_before_a_step_that_is_left_out_counts_in_the_next_one(replicas):
    def program():
        module = batches.model()
        optimizer = distopt.torch.Adam(module, lr=0.1, on_nonfinite="skip")
        for step in range(3):
            optimizer.zero_grad()
            batches.backward(module, step)
            if step == 1:
                module[0].weight.data.clamp_(-0.1, 0.1)
                module[0].weight.grad[0, 0] = torch.nan
            optimizer.step()
            if step == 1:
                assert module[0].weight.abs().max() <= 0.1
        return batches.values(module)

    module = batches.model()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for step in (0, 2):
        optimizer.zero_grad()
        # The gradients of the last step are those of parameters that have been edited.
        if step == 2:
            module[0].weight.data.clamp_(-0.1, 0.1)
        batches.loss(module, *batches.batch(step)).backward()
        optimizer.step()
    found = replicas.run(program)
    batches.assert_same_everywhere(found)
    batches.assert_close(found[0], batches.values(module))


def test_equal_values_in_other_memory_are_no_edit():
    def program():
        module = batches.model()
        optimizer = distopt.torch.Adam(module, lr=0.1)
        for step in range(3):
            optimizer.zero_grad()
            batches.backward(module, step)
            if rank() == 1:
                module[0].weight.data = module[0].weight.data.clone()
            optimizer.step()
        return batches.values(module)

    found = on_replicas(2, program)
    batches.assert_same_everywhere(found)
    batches.assert_close(found[0], batches.beside(lambda p: torch.optim.Adam(p, lr=0.1)))


def test_what_one_replica_keeps_in_the_state_besides_is_its_own():
    def program():
        module = batches.model()
        optimizer = distopt.torch.Adam(module, lr=0.1)
        for step in range(3):
            optimizer.zero_grad()
            batches.backward(module, step)
            optimizer.step()
            if rank() == 1:
                optimizer.state[module[0].weight]["seen"] = step
        return optimizer.state[module[0].weight].get("seen"), batches.values(module)

    found = on_replicas(2, program)
    assert [seen for seen, _ in found] == [None, 2]
    batches.assert_close(found[0][1], batches.beside(lambda p: torch.optim.Adam(p, lr=0.1)))
