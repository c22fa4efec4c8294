"""Replicas that train different things: one error on all, which names what differs and the program's line."""

import pytest

pytest.importorskip("torch")

import batches
import torch
from replicated import on_replicas, rank

import distopt.torch as dt
from distopt.errors import ReplicaFailed, ReplicaMismatch
from distopt.tracebacks import format_error

pytestmark = pytest.mark.torch


def alike(module):
    return dt.AdamW(module, lr=0.1)


def groups(module, wide):
    first, *others = module.parameters()
    second = [others.pop(0)] if wide else []
    return [{"params": [first, *second]}, {"params": others, "lr": 0.2}]


#: What replica 1 makes where replica 0 makes AdamW(module, lr=0.1), and what is said of it.
MAKERS = {
    "another model": (lambda module: alike(torch.nn.Linear(3, 5)), "AdamW() on weight float32[5, 3]"),
    "another order": (
        lambda module: dt.AdamW(list(module.named_parameters())[::-1], lr=0.1),
        "AdamW() on 2.bias float32[2]",
    ),
    "another dtype": (lambda module: alike(module.double()), "0.weight float64[5, 3]"),
    "fewer parameters": (lambda module: alike(module[0]), "AdamW() on weight float32[5, 3], bias"),
    "another optimizer": (lambda module: dt.Adam(module, lr=0.1), "Adam() on 0.weight"),
}
#: The same at the first step.
STEPS = {
    "another learning rate": (lambda module: dt.AdamW(module, lr=0.2), "step=-2"),
    "another decay": (lambda module: dt.AdamW(module, lr=0.1, weight_decay=0.5), "kept=0.949999"),
    "amsgrad": (lambda module: dt.AdamW(module, lr=0.1, amsgrad=True), "torch_amsgrad"),
    "maximize": (lambda module: dt.AdamW(module, lr=0.1, maximize=True), "sign=-1"),
    "an aggregator": (lambda module: dt.AdamW(module, lr=0.1, aggregator="sum"), "step of AdamW on"),
    "a clip": (lambda module: dt.AdamW(module, lr=0.1, clip_grad_norm=1.0), "clip"),
    "a policy": (lambda module: dt.AdamW(module, lr=0.1, on_nonfinite="skip"), "skip nonfinite"),
}


def here(message):
    """The line of replica 1."""
    assert "test_replicas_that_differ.py:" in message
    assert "copied on write" not in message
    return next(line for line in message.splitlines() if "replica 1: " in line)


@pytest.mark.parametrize("name", MAKERS)
def test_optimizers_that_are_not_made_alike(name):
    make, text = MAKERS[name]

    def program():
        module = batches.model()
        with pytest.raises(ReplicaMismatch) as raised:
            (make if rank() else alike)(module)
        module = batches.model()
        optimizer = alike(module)
        batches.backward(module)
        optimizer.step()  # the job is as good as before
        return str(raised.value), batches.values(module)

    found = on_replicas(2, program)
    assert text in here(found[0][0])
    assert found[0][0] == found[1][0]
    batches.assert_close(found[0][1], batches.beside(lambda p: torch.optim.AdamW(p, lr=0.1), steps=1))


@pytest.mark.parametrize("name", STEPS)
def test_steps_that_are_not_alike(name):
    make, text = STEPS[name]

    def program():
        module = batches.model()
        optimizer = (make if rank() else alike)(module)
        batches.backward(module)
        with pytest.raises(ReplicaMismatch) as raised:
            optimizer.step()
        untouched = all(map(torch.equal, batches.values(module), batches.values(batches.model())))
        return str(raised.value), untouched, optimizer.state_dict()["state"]

    found = on_replicas(2, program)
    assert text in here(found[0][0])
    assert found[0][0] == found[1][0]
    assert [rest for _, *rest in found] == [[True, {}]] * 2


def test_groups_of_other_parameters():
    """Both replicas have two groups, with the same numbers."""

    def program():
        module = batches.model()
        optimizer = dt.SGD(groups(module, rank() == 0), lr=0.1)
        batches.backward(module)
        with pytest.raises(ReplicaMismatch) as raised:
            optimizer.step()
        return str(raised.value)

    assert "torch_sgd of 0.bias and 2.weight and 2.bias: " in here(on_replicas(2, program)[0])


def test_a_learning_rate_that_one_replica_changes_and_puts_back():
    def program():
        module = batches.model()
        optimizer = alike(module)
        for step in range(3):
            optimizer.zero_grad()
            batches.backward(module, step)
            if step == 1:
                optimizer.param_groups[0]["lr"] = 0.1 + rank()
                with pytest.raises(ReplicaMismatch, match=r"step=-"):
                    optimizer.step()
                optimizer.param_groups[0]["lr"] = 0.1
            optimizer.step()
        return batches.values(module)

    for found in on_replicas(2, program):
        batches.assert_close(found, batches.beside(lambda p: torch.optim.AdamW(p, lr=0.1)))


# -- errors of one replica within a step
def raises(pairs):
    if rank() == 1:
        raise LookupError("of the aggregator")
    return list(pairs)


def test_an_aggregator_that_raises_on_one_replica():
    def program():
        module = batches.model()
        optimizer = dt.SGD(module, lr=0.1, aggregator=raises)
        batches.backward(module)
        with pytest.raises((LookupError, ReplicaFailed)) as raised:
            optimizer.step()
        return type(raised.value), str(raised.value), batches.values(module)

    (kind, text, values), (other, _, _) = on_replicas(2, program)
    assert (kind, other) == (ReplicaFailed, LookupError)
    assert "replica 1 of 2 failed" in text
    assert "of the aggregator" in text
    assert all(map(torch.equal, values, batches.values(batches.model())))


def sparse_gradient(module):
    module[0].weight.grad = torch.sparse_coo_tensor([[0]], torch.ones(1, 3), (5, 3), check_invariants=True)


def test_a_gradient_of_a_wrong_kind_on_one_replica():
    def program():
        module = batches.model()
        optimizer = alike(module)
        batches.backward(module)
        kept = module[0].weight.grad
        if rank() == 1:
            sparse_gradient(module)
        with pytest.raises((RuntimeError, ReplicaFailed)) as raised:
            optimizer.step()
        module[0].weight.grad = kept
        optimizer.step()
        return str(raised.value), batches.values(module)

    found = on_replicas(2, program)
    assert all("does not support sparse gradients" in text for text, _ in found)
    batches.assert_close(found[0][1], batches.beside(lambda p: torch.optim.AdamW(p, lr=0.1), steps=1))


@pytest.mark.parametrize("raised", [LookupError, KeyboardInterrupt])
def test_an_error_in_the_closure_of_one_replica(raised):
    def program():
        module = batches.model()
        optimizer = alike(module)

        def closure():
            if rank() == 1:
                raise raised("of the closure")
            return batches.backward(module)

        optimizer.step(closure)

    with pytest.raises(raised, match="of the closure"):
        on_replicas(2, program)


# -- the program's own lines
def one_edit(module):
    if rank() == 1:
        module[0].weight.data.zero_()


def steps_of(module, optimizer):
    """Calls that reach distopt through PyTorch's code."""
    scaler = torch.amp.GradScaler("cpu")
    torch.optim.lr_scheduler.StepLR(optimizer, 1)  # it wraps step()
    return {
        "step": optimizer.step,
        "scaler": lambda: (scaler.scale(torch.ones(())), scaler.step(optimizer)),
        "closure": lambda: optimizer.step(lambda: None),
        "aggregate": optimizer.aggregate,
    }


@pytest.mark.parametrize("kind", ["step", "scaler", "closure", "aggregate"])
def test_a_message_and_a_traceback_end_with_the_programs_line(kind):
    def program():
        module = batches.model()
        optimizer = alike(module)
        batches.backward(module)
        call = steps_of(module, optimizer)[kind]
        if kind == "aggregate" and rank() == 1:
            module[2].bias.grad = None
        one_edit(module)
        with pytest.raises(ReplicaMismatch) as raised:
            call()
        return str(raised.value), format_error(raised.value)

    for message, shown in on_replicas(2, program):
        assert here(message)
        files = [line for line in shown.splitlines() if line.startswith('  File "')]
        assert "test_replicas_that_differ.py" in files[-1]
        assert not [line for line in files if "/torch/" in line or "contextlib" in line]


# -- memory
@pytest.mark.parametrize("memory", ["shared", "private"])
def test_memory_of_ones_own(replicas, memory, monkeypatch):
    monkeypatch.setenv("DISTOPT_MEMORY", memory)

    def program():
        module = batches.model(seed=rank())
        optimizer = dt.AdamW(module, lr=0.1)
        for step in range(3):
            optimizer.zero_grad()
            batches.backward(module, step)
            if step == 1:
                module[0].weight.data.mul_(1.0)
            optimizer.step()
        return batches.values(module)

    found = replicas.run(program)
    batches.assert_same_everywhere(found)
    batches.assert_close(found[0], batches.beside(lambda p: torch.optim.AdamW(p, lr=0.1)))
