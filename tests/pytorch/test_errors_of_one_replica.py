"""What goes wrong on one replica before a step stops the step on all, and the next one is made."""

import pytest

torch = pytest.importorskip("torch")

import distopt.torch as dt  # noqa: E402
from distopt.errors import ReplicaFailed  # noqa: E402
from tests.replicated import on_replicas, rank  # noqa: E402

pytestmark = pytest.mark.torch


def _backward(model):
    model(torch.ones(2, 3)).sum().backward()


def _examples(model, optimizer):
    _backward(model)
    optimizer.step(examples=float("nan"))


def _no_sync(model, optimizer):
    with optimizer.no_sync():
        _backward(model)
        optimizer.step()


def _closure(model, optimizer):
    optimizer.step(lambda: 1 // 0)


def _aggregate(model, optimizer):
    _backward(model)
    optimizer.aggregate(examples=-1)


def _group(model, optimizer):
    optimizer.add_param_group({"params": [3]})


def _repeated(model, optimizer):
    optimizer.add_param_group({"params": [model.weight]})


def _right(wrong, model, optimizer):
    """What the others do."""
    if wrong in (_group, _repeated):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
        return
    _backward(model)
    if wrong is _aggregate:
        optimizer.aggregate()
    else:
        optimizer.step()


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (_examples, ValueError),
        (_no_sync, RuntimeError),
        (_closure, ZeroDivisionError),
        (_aggregate, ValueError),
        (_group, TypeError),
        (_repeated, ValueError),
    ],
)
@pytest.mark.parametrize("who", [0, 1])
def test_the_others_hear_of_it(wrong, error, who):
    def program():
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)
        optimizer = dt.SGD(model, lr=0.5)
        before = model.weight.tolist()
        if rank() == who:
            with pytest.raises(error):
                wrong(model, optimizer)
        else:
            with pytest.raises(ReplicaFailed, match=f"replica {who} of 2 failed"):
                _right(wrong, model, optimizer)
        assert model.weight.tolist() == before
        assert len(optimizer.param_groups) == 1
        optimizer.zero_grad()
        _backward(model)
        optimizer.step()
        return [a - b for a, b in zip(before[0], model.weight.tolist()[0], strict=True)]

    # Each replica's gradient is 2, the sum over two rows of ones.
    assert on_replicas(2, program) == [pytest.approx([1.0] * 3)] * 2


def test_a_step_in_eval_mode_on_one_replica():
    def program():
        model = torch.nn.Linear(3, 1)
        optimizer = dt.SGDScheduleFree(model, lr=0.1)
        optimizer.train()
        if rank() == 1:
            optimizer.eval()
        _backward(model)
        with pytest.raises(RuntimeError if rank() == 1 else ReplicaFailed, match="for evaluation"):
            optimizer.step()
        optimizer.train()
        optimizer.step()
        return model.weight.tolist()

    first, second = on_replicas(2, program)
    assert first == second


@pytest.mark.parametrize("kind", [dt.AdaBelief, dt.AdamWScheduleFree, dt.LAMB, dt.Lion])
def test_arguments_that_make_no_sense_are_named(kind):
    parameters = [torch.nn.Parameter(torch.ones(2))]
    with pytest.raises(ValueError, match=rf"betas of {kind.__name__} must be two numbers; got \(0.9,\)"):
        kind(parameters, betas=(0.9,))
    with pytest.raises(TypeError, match=f"lr of {kind.__name__} must be a number; got 'fast'"):
        kind(parameters, lr="fast")
    kind(parameters, lr=torch.tensor(0.1))
