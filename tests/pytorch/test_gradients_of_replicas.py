"""The gradients of all replicas together: means, weights, aggregators, clips."""

import numpy as np
import pytest

pytest.importorskip("torch")

import batches
import torch
from replicated import on_replicas, rank

import distopt.torch
from distopt import aggregators
from distopt.distribute import get_replica_context
from distopt.errors import ReplicaFailed, ReplicaMismatch

pytestmark = pytest.mark.torch

#: Parts of the batch of 8 examples that replicas have.
UNEVEN = {1: (8,), 2: (5, 3), 4: (4, 0, 1, 3)}


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.1)


def clipped(how, limit):
    def clip(module):
        how(module.parameters(), limit)

    return clip


def trained(replicas, dtype=torch.float32, **options):
    """The parameters after three steps on equal shares."""

    def program():
        module = batches.model(dtype)
        optimizer = distopt.torch.Adam(module, lr=0.1, **options)
        for step in range(3):
            optimizer.zero_grad()
            batches.backward(module, step)
            optimizer.step()
        return batches.values(module)

    found = replicas.run(program)
    batches.assert_same_everywhere(found)
    return found[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_mean_over_equal_shares(replicas, dtype):
    batches.assert_close(trained(replicas, dtype), batches.beside(adam, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("option", "how"),
    [
        ("clip_grad_norm", torch.nn.utils.clip_grad_norm_),
        ("clip_grad_value", torch.nn.utils.clip_grad_value_),
    ],
)
def test_clips_are_those_of_the_whole_batch(replicas, dtype, option, how):
    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.5)

    def program():
        module = batches.model(dtype)
        optimizer = distopt.torch.SGD(module, lr=0.5, **{option: 0.05})
        for step in range(3):
            optimizer.zero_grad()
            batches.backward(module, step)
            optimizer.step()
        return batches.values(module)

    wanted = batches.beside(sgd, dtype=dtype, around=clipped(how, 0.05))
    batches.assert_close(replicas.run(program)[0], wanted)
    unclipped = batches.beside(sgd, dtype=dtype)
    assert max(float((a - b).abs().max()) for a, b in zip(wanted, unclipped, strict=True)) > 0.01


def mixed():
    """A model of two dtypes, in two groups."""
    module = batches.model(torch.float64)
    module[2].weight.data = module[2].weight.data.float()
    groups = [{"params": module[0].parameters()}, {"params": module[2].parameters(), "lr": 0.25}]
    return module, groups


def mixed_gradients(module, scale):
    for number, parameter in enumerate(module.parameters()):
        parameter.grad = torch.full_like(parameter, (number + 1) * scale)


@pytest.mark.parametrize("limit", [0.5, 1e3])
def test_a_clip_by_norm_over_two_dtypes_and_groups(replicas, limit):
    def program():
        module, groups = mixed()
        optimizer = distopt.torch.SGD(groups, lr=0.5, momentum=0.9, clip_grad_norm=limit)
        for _ in range(2):
            mixed_gradients(module, float(rank() + 1))
            optimizer.step()
        return batches.values(module)

    module, groups = mixed()
    optimizer = torch.optim.SGD(groups, lr=0.5, momentum=0.9)
    for _ in range(2):
        mixed_gradients(module, (replicas.size + 1) / 2)
        torch.nn.utils.clip_grad_norm_(module.parameters(), limit)
        optimizer.step()
    for found in replicas.run(program):
        # PyTorch's norm of two dtypes is computed in the wider one, of norms rounded to float32.
        batches.assert_close(found, batches.values(module), {torch.float32: 2e-6, torch.float64: 1e-6})


@pytest.mark.tree
def test_uneven_shares_weigh_by_their_examples(replicas):
    counts = UNEVEN[replicas.size]
    begin = np.cumsum([0, *counts])

    def program():
        module = batches.model(torch.float64)
        optimizer = distopt.torch.Adam(module, lr=0.1, unused="zero")
        for step in range(3):
            optimizer.zero_grad()
            part = slice(begin[rank()], begin[rank() + 1])
            x, y = (whole[part] for whole in batches.batch(step, torch.float64))
            if len(x):
                batches.loss(module, x, y).backward()
            optimizer.step(examples=len(x))
        return batches.values(module)

    found = replicas.run(program)
    batches.assert_same_everywhere(found)
    batches.assert_close(found[0], batches.beside(adam, dtype=torch.float64))


@pytest.mark.tree
def test_an_aggregator_that_counts_examples_itself(replicas):
    def program():
        module = batches.model(torch.float64)
        weighted = aggregators.WeightedMean(lambda: rank() + 1)
        optimizer = distopt.torch.SGD(module, lr=1.0, aggregator=weighted)
        steps = []
        for examples in (None, 2, None):
            for parameter in module.parameters():
                parameter.grad = torch.full_like(parameter, float(rank()))
            before = module[2].bias[0].item()
            optimizer.step(examples=examples)
            steps.append(before - module[2].bias[0].item())
        return steps

    n = replicas.size
    weighed = sum(r * (r + 1) for r in range(n)) / sum(r + 1 for r in range(n))
    for found in replicas.run(program):
        assert found == pytest.approx([weighed, (n - 1) / 2, weighed], abs=1e-12)


@pytest.mark.parametrize("aggregator", [None, "mean", "weighted_mean"])
def test_every_mean_can_be_weighed(aggregator):
    def program():
        module = batches.model()
        optimizer = distopt.torch.SGD(module, lr=1.0, aggregator=aggregator)
        for parameter in module.parameters():
            parameter.grad = torch.full_like(parameter, float(rank()))
        before = module[2].bias[0].item()
        optimizer.step(examples=1 + 2 * rank())
        return before - module[2].bias[0].item()

    assert on_replicas(2, program) == pytest.approx([0.75, 0.75], abs=1e-6)


def test_examples_of_some_replicas_only():
    def program():
        module = batches.model()
        optimizer = distopt.torch.Adam(module, lr=0.1)
        batches.backward(module)
        with pytest.raises(ReplicaMismatch) as raised:
            optimizer.step(examples=4 if rank() else None)
        optimizer.step(examples=4)
        return str(raised.value), batches.values(module)

    (message, found), _ = on_replicas(2, program)
    assert "replica 1: step of Adam" in message
    lines = [line for line in message.splitlines() if "weighted by examples" in line]
    assert len(lines) == 1
    assert "replica 1:" in lines[0]
    batches.assert_close(found, batches.beside(adam, steps=1))


def test_what_is_done_is_described(capsys):
    def program():
        return distopt.torch.SGD(batches.model(), lr=0.1, clip_grad_norm=2.0).describe()

    assert on_replicas(2, program)[0].startswith("mean over 2 replicas -> clip global norm 2 -> SGD(lr=0.1")
    assert "mean over 2 replicas" in capsys.readouterr().out


@pytest.mark.parametrize("examples", [-1, 1.5, "3"])
def test_examples_that_are_no_number_of_examples(replicas, examples):
    def program():
        module = batches.model()
        optimizer = distopt.torch.Adam(module, lr=0.1)
        batches.backward(module)
        with pytest.raises((ValueError, TypeError), match="examples"):
            optimizer.step(examples=examples)
        optimizer.step()
        return batches.values(module)

    batches.assert_close(replicas.run(program)[0], batches.beside(adam, steps=1))


def test_nobody_has_examples(replicas):
    def program():
        module = batches.model()
        optimizer = distopt.torch.Adam(module, lr=0.1)
        batches.backward(module)
        with pytest.raises(ValueError, match="no replica has any"):
            optimizer.step(examples=0)
        return batches.values(module), len(optimizer.state_dict()["state"])

    for found, known in replicas.run(program):
        assert all(map(torch.equal, found, batches.values(batches.model())))
        assert known == 0


# -- aggregators
def plain_sum(pairs):
    context = get_replica_context()
    return [(context.all_reduce("sum", gradient), variable) for gradient, variable in pairs]


@pytest.mark.parametrize(
    ("aggregator", "factor"),
    [("mean", 1), ("sum", None), (aggregators.Sum(), None), (plain_sum, None), ("weighted_mean", 1)],
)
def test_aggregators(replicas, aggregator, factor):
    def program():
        module = batches.model()
        optimizer = distopt.torch.SGD(module, lr=0.1, aggregator=aggregator)
        batches.backward(module)
        optimizer.step()
        return batches.values(module)

    lr = 0.1 * (factor or replicas.size)
    wanted = batches.beside(lambda p: torch.optim.SGD(p, lr=lr), steps=1)
    for found in replicas.run(program):
        batches.assert_close(found, wanted)


def test_adasum_of_equal_gradients_is_one_of_them(replicas):
    def program():
        module = batches.model()
        optimizer = distopt.torch.SGD(module, lr=0.1, aggregator="adasum")
        batches.loss(module, *batches.batch()).backward()
        optimizer.step()
        return batches.values(module)

    wanted = batches.beside(lambda p: torch.optim.SGD(p, lr=0.1), steps=1)
    for found in replicas.run(program):
        batches.assert_close(found, wanted)


class Decaying(aggregators.Aggregator):
    """A mean, divided by the number of the step: it has state."""

    def __init__(self):
        self.step = 1

    def __call__(self, grads_and_vars):
        context = get_replica_context()
        return [(context.all_reduce("mean", g) / self.step, v) for g, v in grads_and_vars]

    def finish_step(self):
        self.step += 1


def test_an_aggregator_with_a_state(replicas):
    def program():
        module = batches.model()
        optimizer = distopt.torch.SGD(module, lr=0.1, aggregator=Decaying())
        for step in range(3):
            optimizer.zero_grad()
            batches.backward(module, step)
            optimizer.step()
        return batches.values(module)

    divisors = iter((1, 2, 3))

    def divide(module):
        by = next(divisors)
        for parameter in module.parameters():
            parameter.grad.div_(by)

    wanted = batches.beside(lambda p: torch.optim.SGD(p, lr=0.1), around=divide)
    for found in replicas.run(program):
        batches.assert_close(found, wanted)


def test_examples_with_an_aggregator_that_knows_none(replicas):
    def program():
        module = batches.model()
        optimizer = distopt.torch.SGD(module, lr=0.1, aggregator="sum")
        batches.backward(module)
        with pytest.raises(ValueError, match="weights a mean"):
            optimizer.step(examples=3)

    replicas.run(program)


# -- what is missing, or not finite
@pytest.mark.parametrize("policy", ["propagate", "raise", "skip", "zero"])
def test_gradients_that_are_not_finite(replicas, policy):
    last = replicas.size - 1

    def program():
        module = batches.model()
        optimizer = distopt.torch.SGD(module, lr=0.1, on_nonfinite=policy)
        batches.backward(module)
        if rank() == last:
            module[2].bias.grad[1] = torch.inf
        if policy == "raise":
            with pytest.raises(FloatingPointError, match=f"replica {last}: the gradient of '2.bias' is inf"):
                optimizer.step()
        else:
            optimizer.step()
        return batches.values(module)

    found = replicas.run(program)
    batches.assert_same_everywhere(found)
    start = batches.values(batches.model())
    wanted = batches.beside(lambda p: torch.optim.SGD(p, lr=0.1), steps=1)
    if policy in ("raise", "skip"):
        assert all(map(torch.equal, found[0], start))
        return
    batches.assert_close(found[0][:3], wanted[:3])
    assert torch.isfinite(found[0][3][1]) == (policy == "zero")


def test_a_parameter_unused_by_one_replica(replicas):
    last = replicas.size - 1

    def program(unused):
        module = batches.model()
        optimizer = distopt.torch.SGD(module, lr=0.1, unused=unused)
        batches.backward(module)
        if rank() == last:
            module[2].bias.grad = None
        optimizer.step()
        return batches.values(module)

    if replicas.size > 1:
        with pytest.raises(ReplicaMismatch, match=f"replica {last}: .*without a gradient of 2.bias"):
            replicas.run(lambda: program("error"))
    module = batches.model()
    for share in range(last):  # of all but the last one
        x, y = (part.chunk(replicas.size)[share] for part in batches.batch())
        (batches.loss(module, x, y) / replicas.size).backward()
    gradient = module[2].bias.grad if last else torch.zeros(2)
    moved = module[2].bias.detach() - 0.1 * gradient
    wanted = batches.beside(lambda p: torch.optim.SGD(p, lr=0.1), steps=1)
    for found in replicas.run(lambda: program("zero")):
        batches.assert_close(found, [*wanted[:3], moved])


def test_after_a_missing_gradient_the_program_can_go_on():
    def program():
        module = batches.model()
        optimizer = distopt.torch.Adam(module, lr=0.1)
        for step in range(3):
            optimizer.zero_grad()
            batches.backward(module, step)
            if step == 1:
                kept = module[2].bias.grad
                if rank() == 1:
                    module[2].bias.grad = None
                with pytest.raises((ReplicaMismatch, ReplicaFailed)):
                    optimizer.step()
                module[2].bias.grad = kept
            optimizer.step()
        return batches.values(module)

    found = on_replicas(2, program)
    batches.assert_same_everywhere(found)
    batches.assert_close(found[0], batches.beside(adam))
