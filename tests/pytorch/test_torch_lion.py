"""Lion, which torch.optim has not: beside the authors' algorithm on tensors of PyTorch."""

import pytest

torch = pytest.importorskip("torch")
dt = pytest.importorskip("distopt.torch")

from tests.pytorch.same_program import assert_same, kept, mlp, train  # noqa: E402

pytestmark = pytest.mark.torch


class Theirs(torch.optim.Optimizer):
    """Algorithm 2 of arXiv:2302.06675."""

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0, *, maximize=False):
        super().__init__(
            params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize}
        )

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for p in group["params"]:
                g = -p.grad if group["maximize"] else p.grad
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                c = beta1 * m + (1 - beta1) * g
                p.sub_(lr * (c.sign() + group["weight_decay"] * p))
                m.copy_(beta2 * m + (1 - beta2) * g)


def test_thirty_steps_in_groups():
    def program(side):
        model = mlp()
        groups = [
            {"params": model[0].parameters(), "weight_decay": 0.1},
            {"params": model[2].parameters(), "betas": (0.5, 0.9), "maximize": True},
        ]
        optimizer = (dt.Lion if side.ours else Theirs)(groups, lr=0.01)
        train(model, optimizer, side, range(30))
        found = kept(model, optimizer)
        # It goes on from a state that has been saved.
        state = optimizer.state_dict()
        again = (dt.Lion if side.ours else Theirs)(groups_of(model))
        again.load_state_dict(state)
        train(model, again, side, range(30, 35))
        return found, kept(model, again)

    assert_same(program)


def groups_of(model):
    return [{"params": model[0].parameters()}, {"params": model[2].parameters()}]


def test_arguments():
    model = mlp()
    with pytest.raises(ValueError, match=r"betas\[1\] of Lion must be in \[0, 1\)"):
        dt.Lion(model, betas=(0.9, 1.0))
    for name in ("lr", "weight_decay"):
        with pytest.raises(ValueError, match=f"{name} of Lion"):
            dt.Lion(model, **{name: -0.1})
    optimizer = dt.Lion(model)
    assert optimizer.defaults == Theirs(model.parameters()).defaults
    assert "Lion(lr=0.0001" in optimizer.describe()


def test_sparse_gradients_are_refused():
    table = torch.nn.Embedding(5, 3, sparse=True)
    optimizer = dt.Lion(table.parameters())
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="Lion does not support sparse gradients"):
        optimizer.step()
