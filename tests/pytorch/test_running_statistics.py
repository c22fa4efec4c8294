"""Running statistics of batch norms are the mean over replicas after each step, and only then exchanged."""

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from replicated import on_replicas, rank  # noqa: E402
from torch import nn  # noqa: E402

import distopt.torch as dt  # noqa: E402
from distopt.errors import ReplicaMismatch  # noqa: E402

pytestmark = pytest.mark.torch


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 4), nn.BatchNorm1d(4, momentum=None)
    ).to(dtype)


def batch(replica, step, dtype=torch.float32):
    generator = torch.Generator().manual_seed(10 * replica + step)
    return torch.randn(4 + replica, 3, generator=generator, dtype=dtype) + replica


def statistics(module):
    return [b.clone() for name, b in module.named_buffers() if "running" in name]


#: Optimizers that do not move parameters, so that what replicas do can be told beforehand.
MAKERS = {
    "the module": lambda module: dt.SGD(module, lr=0.0),
    "a list": lambda module: dt.SGD(list(module.parameters()), lr=0.0),
    "named": lambda module: dt.SGD(list(module.named_parameters()), lr=0.0),
    "torch's own": lambda module: dt.DistributedOptimizer(torch.optim.SGD(module.parameters(), lr=0.0)),
}


@pytest.mark.parametrize("name", [*MAKERS, "two modules"])
def test_the_mean_over_replicas_after_each_step(name):
    size, steps = 3, 3
    alone = [network() for _ in range(size)]
    for r, module in enumerate(alone):
        for step in range(steps):
            module(batch(r, step))
    expected = [sum(each) / size for each in zip(*map(statistics, alone), strict=True)]

    def program():
        modules = [network()]
        if name in MAKERS:
            optimizer = MAKERS[name](modules[0])
        else:  # that no module has in common
            modules = [modules[0][:2], modules.pop()[2:]]
            optimizer = dt.SGD([p for module in modules for p in module.parameters()], lr=0.0)
        for step in range(steps):
            optimizer.zero_grad()
            y = batch(rank(), step)
            for module in modules:
                y = module(y)
            y.square().sum().backward()
            optimizer.step()
        return [buffer for module in modules for buffer in statistics(module)]

    found = on_replicas(size, program)
    for buffers in found:
        assert all(map(torch.equal, buffers, found[0]))
        for buffer, wanted in zip(buffers, expected, strict=True):
            torch.testing.assert_close(buffer, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_frozen_keeps_its_bits(dtype):
    """In eval() as well as in training without a batch; three replicas divide by no power of two."""

    def program():
        module = network(dtype)
        for buffer in module.buffers():
            buffer.copy_(torch.rand(buffer.shape) * 3)
        optimizer = dt.SGD(module, lr=0.1)
        before = statistics(module)
        for step in range(3):
            module[1].eval()
            optimizer.zero_grad()
            module[:2](batch(rank(), step, dtype)).sum().backward()
            optimizer.step()
        return all(map(torch.equal, before, statistics(module)))

    assert on_replicas(3, program) == [True] * 3


def test_a_backward_pass_goes_on_after_a_step():
    """What it has saved of a batch norm is not taken for changed."""

    def program():
        module = network()
        body, head = dt.SGD(module[:2].parameters(), lr=0.1), dt.SGD(module[2:].parameters(), lr=0.1)
        y = module[:2](batch(rank(), 0))
        z = module[2:](y.detach().requires_grad_())
        z.sum().backward()
        head.step()
        y.sum().backward()
        body.step()
        return statistics(module)

    first, second = on_replicas(2, program)
    assert all(map(torch.equal, first, second))


def test_replicas_of_which_one_evaluates():
    def program():
        module = network()
        optimizer = dt.SGD(module, lr=0.1)
        if rank() == 1:
            module[1].eval()
        module(batch(0, 0)).sum().backward()
        weight = module[0].weight.detach().clone()
        with pytest.raises(ReplicaMismatch) as raised:
            optimizer.step()
        assert torch.equal(module[0].weight, weight)
        return str(raised.value)

    for text in on_replicas(2, program):
        assert "averaging 16 running statistics" in text
        assert "averaging 8 running statistics" in text


def test_groups_that_are_added_bring_their_batch_norms():
    def program():
        module, more = network(), nn.BatchNorm1d(4)
        more.running_mean.fill_(rank())
        optimizer = dt.SGD(module, lr=0.1)
        optimizer.add_param_group({"params": list(more.parameters())})
        assert more.running_mean.tolist() == [0.0] * 4
        more(module(batch(rank(), 0))).sum().backward()
        optimizer.step()
        return statistics(module), statistics(more)

    first, second = on_replicas(2, program)
    for found, other in zip(first, second, strict=True):
        assert all(map(torch.equal, found, other))


def test_instances_and_batch_norms_that_are_synchronized_or_track_nothing():
    """Instance norm has running statistics too."""

    def program():
        module = nn.Sequential(
            nn.InstanceNorm1d(3, track_running_stats=True),
            nn.BatchNorm1d(3, track_running_stats=False),
            dt.SyncBatchNorm(3),
        )
        optimizer = dt.SGD(module, lr=0.1)
        module(torch.rand(2, 3, 5) + rank()).sum().backward()
        own = statistics(module)
        assert torch.equal(*dt.all_gather(own[2][None]))
        optimizer.step()
        both = dt.all_gather([x[None] for x in own])
        torch.testing.assert_close(statistics(module), [x.mean(0) for x in both])
        assert torch.equal(statistics(module)[2], own[2])

    on_replicas(2, program)


PROGRAM = """
import sys, torch, distopt.torch as dt
from torch import nn
torch.manual_seed(dt.rank())
model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 4), nn.BatchNorm1d(4),
                      nn.Linear(4, 1))
model[4] = dt.convert_sync_batchnorm(model[4])
optimizer = dt.Adam(model, lr=0.1)
x = torch.randn(8, 3)
for step in range(3):
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()
if dt.rank() == 0:
    model.eval()
    loss = float(model(torch.ones(2, 3)).sum().detach())
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "loss": loss}, sys.argv[1])
model.train()
states = dt.all_gather([value[None] for value in model.state_dict().values()])
assert all(torch.equal(first, second) for first, second in states)
optimizer.zero_grad()
model(x).square().mean().backward()
optimizer.step()
print("done")
"""


@pytest.mark.launches
@pytest.mark.timeout(150)
@pytest.mark.slow
def test_one_replica_evaluates_and_saves(tmp_path):
    program, saved = tmp_path / "train.py", tmp_path / "saved.pt"
    program.write_text(PROGRAM)
    mpiexec = os.path.join(os.path.dirname(sys.executable), "mpiexec")
    done = subprocess.run(
        [mpiexec, "-n", "2", sys.executable, str(program), str(saved)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done"] * 2
    found = torch.load(saved)
    module = nn.Sequential(*network()[:4], nn.BatchNorm1d(4), nn.Linear(4, 1))  # a plain program
    module.load_state_dict(found["model"])
    assert float(module.eval()(torch.ones(2, 3)).sum().detach()) == found["loss"]
