"""What programs do with an optimizer of PyTorch besides steps: groups, freezing, closures, hooks."""

import pytest

torch = pytest.importorskip("torch")
dt = pytest.importorskip("distopt.torch")

from replicated import on_replicas  # noqa: E402

from tests.pytorch.same_program import assert_same, batch, kept, loss, mlp, train  # noqa: E402

pytestmark = pytest.mark.torch


def test_a_group_is_added_late():
    def program(side):
        model = mlp()
        optimizer = side.optim.Adam(model[0].parameters(), lr=0.02)
        train(model, optimizer, side, range(4))
        optimizer.add_param_group({"params": model[2].parameters(), "lr": 0.1, "amsgrad": True})
        train(model, optimizer, side, range(4, 9))
        return kept(model, optimizer)

    assert_same(program)


def test_a_group_that_is_refused_is_not_added():
    def program():
        model = mlp()
        optimizer = dt.SGD(model[0].parameters(), lr=0.1)
        for tensor, words in (
            (model[0].weight, "appear in more than one"),
            (torch.zeros(2, dtype=torch.complex64), "only real floating-point ones are trained"),
        ):
            with pytest.raises(ValueError, match=words):
                optimizer.add_param_group({"params": tensor})
        assert len(optimizer.param_groups) == 1
        loss(model, lambda x: x, 0).backward()
        optimizer.step()

    on_replicas(2, program)


def test_parameters_are_frozen_and_join_again():
    def program(side):
        model = mlp()
        model[0].weight.requires_grad_(False)
        optimizer = side.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
        train(model, optimizer, side, range(3))
        assert model[0].weight not in optimizer.state
        model[0].weight.requires_grad_(True)
        model[2].bias.requires_grad_(False)
        train(model, optimizer, side, range(3, 6))
        model[2].requires_grad_(True)
        train(model, optimizer, side, range(6, 9))
        return kept(model, optimizer)

    want = assert_same(program)
    steps = [int(entry["step"]) for entry in want[1]["state"].values()]
    assert sorted(steps) == [6, 6, 9, 9]


@pytest.mark.parametrize("rule", ["SGD", "Adam", "NAdam", "Adagrad"])
def test_parameters_without_a_gradient_in_some_steps(rule):
    def program(side):
        model = mlp()
        options = {"momentum": 0.9} if rule == "SGD" else {}
        optimizer = getattr(side.optim, rule)(model.parameters(), lr=0.02, **options)
        for step in range(10):
            optimizer.zero_grad()
            loss(model, side, step).backward()
            if step % 3 == 1:
                model[0].bias.grad = None
            if step < 4:
                model[2].weight.grad = None
            optimizer.step()
        return kept(model, optimizer)

    assert_same(program)


def test_steps_without_any_gradient():
    def program(side):
        model = mlp()
        optimizer = side.optim.Adam(model.parameters(), lr=0.05)
        optimizer.step()
        assert not optimizer.state
        train(model, optimizer, side, range(2))
        optimizer.zero_grad()
        optimizer.step()
        return kept(model, optimizer)

    assert_same(program)


def test_zeroed_gradients_are_gradients():
    def program(side):
        model = mlp()
        optimizer = side.optim.Adam(model.parameters(), lr=0.05, weight_decay=0.1)
        train(model, optimizer, side, range(2))
        optimizer.zero_grad(set_to_none=False)
        assert all((p.grad == 0).all() for p in model.parameters())
        optimizer.step()
        train(model, optimizer, side, range(2, 4))
        return kept(model, optimizer)

    assert_same(program)


def test_tied_weights():
    def program(side):
        model = mlp()
        model.append(torch.nn.Linear(2, 5))
        model.append(torch.nn.Linear(5, 2))
        model[4].weight = model[2].weight
        optimizer = side.optim.Adam(model.parameters(), lr=0.05)
        train(model, optimizer, side, range(6))
        assert model[4].weight is model[2].weight
        return kept(model, optimizer)

    assert_same(program)


def test_the_same_parameter_twice_is_torchs_error():
    model = mlp()
    with pytest.warns(UserWarning, match="duplicate parameters"):
        dt.SGD([model[0].bias, model[0].bias], lr=0.1)
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        dt.SGD([{"params": model[0].bias}, {"params": [model[0].bias]}], lr=0.1)


def test_a_closure():
    def program(side):
        model = mlp()
        optimizer = side.optim.Adam(model.parameters(), lr=0.05)
        for step in range(5):

            def closure(at=step):
                assert torch.is_grad_enabled()
                optimizer.zero_grad()
                value = loss(model, side, at)
                value.backward()
                return value

            before = loss(model, side, step).item()
            assert optimizer.step(closure).item() == before
        return kept(model, optimizer)

    assert_same(program)


def test_gradients_of_several_batches_add_up():
    def program(side):
        model = mlp()
        optimizer = side.optim.Adam(model.parameters(), lr=0.05)
        for step in range(6):
            (loss(model, side, step) / 2).backward()
            if step % 2:
                optimizer.step()
                optimizer.zero_grad()
        return kept(model, optimizer)

    assert_same(program)


def test_maximize_in_one_group():
    def program(side):
        model = mlp()
        groups = [{"params": model[0].parameters(), "maximize": True}, {"params": model[2].parameters()}]
        optimizer = side.optim.SGD(groups, lr=0.01, momentum=0.5)
        train(model, optimizer, side, range(5))
        return kept(model, optimizer)

    assert_same(program)


def test_hooks_around_a_step_run_once_a_step():
    def program(side):
        model, calls = mlp(), []
        optimizer = side.optim.SGD(model.parameters(), lr=0.1)

        def before(own, args, kwargs):
            calls.append("before")
            assert own is optimizer
            with torch.no_grad():
                for p in model.parameters():
                    p.grad.mul_(0.5)

        handles = [
            optimizer.register_step_pre_hook(before),
            optimizer.register_step_post_hook(lambda *_: calls.append("after")),
        ]
        train(model, optimizer, side, range(3))
        for handle in handles:
            handle.remove()
        train(model, optimizer, side, range(3, 4))
        return [calls, *kept(model)]

    want = assert_same(program)
    assert want[0] == ["before", "after"] * 3


def test_global_hooks():
    from torch.optim.optimizer import (
        register_optimizer_step_post_hook,
        register_optimizer_step_pre_hook,
    )

    calls = []
    handles = [
        register_optimizer_step_pre_hook(lambda *_: calls.append("before")),
        register_optimizer_step_post_hook(lambda *_: calls.append("after")),
    ]
    try:
        model = mlp()
        train(model, dt.Adam(model.parameters()), lambda x: x, range(2))
    finally:
        for handle in handles:
            handle.remove()
    assert calls == ["before", "after"] * 2


def test_a_hook_may_change_the_arguments():
    model, calls = mlp(), []
    optimizer = dt.SGD(model.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(lambda own, args, kwargs: (args, {"closure": lambda: calls.append(1)}))
    optimizer.step()
    assert calls == [1]


def test_options_of_a_group_change_between_steps():
    def program(side):
        model = mlp()
        optimizer = side.optim.AdamW(model.parameters(), lr=0.02)
        group = optimizer.param_groups[0]
        for change in ({}, {"weight_decay": 0.3}, {"eps": 0.1}, {"maximize": True}, {"betas": (0.5, 0.9)}):
            group.update(change)
            train(model, optimizer, side, range(3))
        return kept(model, optimizer)

    assert_same(program)


def test_momentum_comes_and_goes():
    def program(side):
        model = mlp()
        optimizer = side.optim.SGD(model.parameters(), lr=0.05, dampening=0.2)
        for momentum in (0, 0.9, 0, 0.5):
            optimizer.param_groups[0]["momentum"] = momentum
            train(model, optimizer, side, range(2))
        return kept(model, optimizer)

    assert_same(program)


def test_a_graph_from_before_a_step_is_torchs_error():
    def program():
        model = mlp()
        optimizer = dt.SGD(model.parameters(), lr=0.1)
        train(model, optimizer, lambda x: x, range(1))
        value = loss(model, lambda x: x, 0)
        value.backward(retain_graph=True)
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            value.backward()

    for size in (1, 2):
        on_replicas(size, program)


def test_gradients_are_left_to_the_program():
    """As in PyTorch: step() reads gradients, and changes neither them nor what they are."""

    def program():
        model = mlp()
        optimizer = dt.Adam(model.parameters(), lr=0.1)
        loss(model, lambda x: x, 0).backward()
        before = [(p.grad, p.grad.clone()) for p in model.parameters()]
        optimizer.step()
        for p, (gradient, value) in zip(model.parameters(), before, strict=True):
            assert p.grad is gradient
            assert (gradient == value).all()
            assert p.grad._version == gradient._version

    for size in (1, 2):
        on_replicas(size, program)


def test_penalty_and_second_derivatives():
    def program(side):
        model = mlp()
        optimizer = side.optim.SGD(model.parameters(), lr=0.05)
        for step in range(4):
            optimizer.zero_grad()
            x = side(batch(step, 3)).requires_grad_(True)
            (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
            (slope**2).mean().backward()
            optimizer.step()
        return kept(model)

    assert_same(program)
