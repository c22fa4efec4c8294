"""DistributedOptimizer: other optimizers with the gradients of all replicas."""

import copy

import pytest

pytest.importorskip("torch")

import batches
import torch
from replicated import on_replicas, rank

import distopt.torch
from distopt.errors import ReplicaMismatch
from distopt.torch import DistributedOptimizer

pytestmark = pytest.mark.torch


class SignSGD(torch.optim.Optimizer):
    """As a third party writes one."""

    def __init__(self, params, lr=0.1, beta=0.5):
        super().__init__(params, {"lr": lr, "beta": beta})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    state["mean"] = group["beta"] * state.get("mean", 0) + parameter.grad
                    parameter.sub_(state["mean"].tanh(), alpha=group["lr"])
        return loss


def run(module, optimizer, backward, steps=3):
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for step in range(steps):
        optimizer.zero_grad()
        backward(module, step)
        optimizer.step()
        scheduler.step()
    return batches.values(module)


def whole(module, step):
    batches.loss(module, *batches.batch(step)).backward()


@pytest.mark.parametrize("make", [SignSGD, torch.optim.Rprop, torch.optim.ASGD, torch.optim.AdamW])
def test_the_mean_and_a_schedule(replicas, make):
    def program():
        module = batches.model(seed=rank())
        return run(module, DistributedOptimizer(make(module.parameters(), lr=0.1), module), batches.backward)

    found = replicas.run(program)
    batches.assert_same_everywhere(found)
    module = batches.model()
    batches.assert_close(found[0], run(module, make(module.parameters(), lr=0.1), whole))


def test_lbfgs(replicas):
    def fit(module, optimizer, backward):
        losses = []
        for _ in range(3):

            def closure():
                optimizer.zero_grad()
                return backward(module, 0)

            losses.append(float(optimizer.step(closure)))
        return batches.values(module), losses

    def program():
        module = batches.model(torch.float64)
        optimizer = torch.optim.LBFGS(module.parameters(), line_search_fn="strong_wolfe", max_iter=4)
        return fit(module, DistributedOptimizer(optimizer, module), batches.backward)

    def loss(module, step):
        found = batches.loss(module, *batches.batch(step, torch.float64))
        found.backward()
        return found.detach()

    module = batches.model(torch.float64)
    optimizer = torch.optim.LBFGS(module.parameters(), line_search_fn="strong_wolfe", max_iter=4)
    wanted, losses = fit(module, optimizer, loss)
    found = replicas.run(program)
    batches.assert_same_everywhere([values for values, _ in found])
    batches.assert_close(found[0][0], wanted, {torch.float64: 1e-9})  # rounding grows in line searches
    for _, own in found:
        assert own == pytest.approx(losses, rel=1e-9)


def test_it_is_of_the_same_class_and_has_the_same_state():
    def program():
        module = batches.model()
        inner = torch.optim.AdamW(module.parameters(), lr=0.1)
        batches.backward(module)
        inner.step()
        optimizer = DistributedOptimizer(inner, module)
        assert isinstance(optimizer, torch.optim.AdamW)
        assert type(optimizer).__name__ == "AdamW"
        assert set(optimizer.state) == set(module.parameters())
        return optimizer.state_dict()["state"][0]["step"].item()

    assert on_replicas(2, program) == [1.0, 1.0]


def test_a_saved_state_goes_on(replicas):
    def program():
        module = batches.model()
        optimizer = DistributedOptimizer(SignSGD(module.parameters()), module)
        batches.backward(module, 0)
        optimizer.step()
        saved = copy.deepcopy((module.state_dict(), optimizer.state_dict()))
        other = batches.model(seed=1)
        again = DistributedOptimizer(SignSGD(other.parameters(), lr=7.0), other)
        other.load_state_dict(saved[0])
        again.load_state_dict(saved[1])
        for m, o in ((module, optimizer), (other, again)):
            o.zero_grad()
            batches.backward(m, 1)
            o.step()
        return batches.values(module), batches.values(other)

    for one, other in replicas.run(program):
        assert all(map(torch.equal, one, other))


def test_a_group_that_comes_later_begins_with_replica_0s_values(replicas):
    def program():
        module = batches.model(seed=rank())
        optimizer = DistributedOptimizer(SignSGD(module[0].parameters()))
        optimizer.add_param_group({"params": list(module[2].parameters()), "lr": 0.2})
        return run(module, optimizer, batches.backward)

    module = batches.model()
    groups = [{"params": module[0].parameters()}, {"params": module[2].parameters(), "lr": 0.2}]
    wanted = run(module, SignSGD(groups), whole)
    found = replicas.run(program)
    batches.assert_same_everywhere(found)
    batches.assert_close(found[0], wanted)


def test_aggregators_and_other_numbers_of_gradients(replicas):
    def program():
        module = batches.model()
        optimizer = DistributedOptimizer(torch.optim.SGD(module.parameters(), lr=0.1), module, "sum")
        batches.backward(module)
        optimizer.step()
        return batches.values(module)

    wanted = batches.beside(lambda p: torch.optim.SGD(p, lr=0.1 * replicas.size), steps=1)
    batches.assert_close(replicas.run(program)[0], wanted)


def test_a_gradient_is_missing_on_one_replica():
    def program():
        module = batches.model()
        optimizer = DistributedOptimizer(torch.optim.SGD(module.parameters(), lr=0.1), module)
        batches.backward(module)
        if rank() == 1:
            module[2].bias.grad = None
        with pytest.raises(ReplicaMismatch) as raised:
            optimizer.step()
        return str(raised.value), all(
            map(torch.equal, batches.values(module), batches.values(batches.model()))
        )

    for message, unchanged in on_replicas(2, program):
        assert "2.bias" in message
        assert "test_distributed_optimizer.py:" in message
        assert unchanged


def test_replicas_that_drift_apart_are_found_out(monkeypatch):
    monkeypatch.setenv("DISTOPT_AUDIT_EVERY", "2")

    def program():
        module = batches.model()
        optimizer = DistributedOptimizer(torch.optim.SGD(module.parameters(), lr=0.1), module)
        for step in range(3):
            batches.backward(module, step)
            if step == 1 and rank() == 1:
                module[2].bias.data.add_(1.0)
            optimizer.step()

    with pytest.raises(ReplicaMismatch, match=r"audit of step of SGD: '2\.bias' on replica 1 differs"):
        on_replicas(2, program)


def test_a_scheduler_must_be_made_afterwards():
    """It replaces step() by one that would aggregate nothing."""
    optimizer = torch.optim.SGD(batches.model().parameters(), lr=0.1)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(ValueError, match="create the DistributedOptimizer first"):
        DistributedOptimizer(optimizer)


@pytest.mark.parametrize("what", [None, torch.nn.Linear(1, 1)])
def test_what_is_no_optimizer(what):
    with pytest.raises(TypeError, match="takes an optimizer of PyTorch that does not aggregate"):
        DistributedOptimizer(what)


def test_optimizers_that_aggregate_already():
    module = batches.model()
    for optimizer in (
        distopt.torch.SGD(module),
        DistributedOptimizer(torch.optim.SGD(batches.model().parameters())),
    ):
        with pytest.raises(TypeError, match="does not aggregate gradients itself"):
            DistributedOptimizer(optimizer)
