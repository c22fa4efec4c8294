"""Schedule-free optimizers: the formulas of the paper, and numbers of the authors' package."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from replicated import on_replicas, rank  # noqa: E402

import distopt.torch as dt  # noqa: E402

pytestmark = pytest.mark.torch

TOLERANCES = {"f4": 1e-5, "f8": 1e-10}
ADAMW = {"lr": 0.1, "betas": (0.9, 0.95), "weight_decay": 0.1, "warmup_steps": 4, "r": 0.5}
SGD = {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.1, "warmup_steps": 4}
WRAPPER = {"weight_decay_at_y": 0.1, "momentum": 0.9, "r": 1.0}
INNER = {"lr": 0.05, "momentum": 0.5, "weight_decay": 0.02}
#: What schedulefree 1.4.1 makes of ten steps from ``values()``: y, and x after eval().
RECORDED = {
    "adamw": (
        [0.9542661836623609, -1.882417571251976, 0.4796530417407342],
        [0.9617357282882856, -1.886795778986587, 0.4776188846397164],
    ),
    "sgd": (
        [0.9445453081395785, -1.9002666629317677, 0.4742875586352291],
        [0.958585439229717, -1.9115888407548178, 0.476971709398462],
    ),
    "wrapped": (
        [0.8485208738952965, -1.9488003017842257, 0.48216853659038944],
        [0.854482422110489, -1.9531470677153966, 0.48311941507424977],
    ),
}
MAKERS = {
    "adamw": lambda params: dt.AdamWScheduleFree(params, **ADAMW),
    "sgd": lambda params: dt.SGDScheduleFree(params, **SGD),
    "wrapped": lambda params: dt.ScheduleFree(dt.SGD(params, **INNER), **WRAPPER),
}


def values():
    return np.array([1.0, -2.0, 0.5])


def gradient(step):
    return np.array([np.sin(step + 1.0), np.cos(2.0 * step), 0.1 * (step % 3) - 0.1])


class Formulas:
    """x, y and z of the paper, with its weights of the mean: ``(x after, y after)`` of all steps."""

    def adamw(self, start, gradients):
        def move(z, y, g, lr, k):
            self.v = 0.95 * self.v + 0.05 * g * g
            return z - lr * (g / (np.sqrt(self.v / (1 - 0.95**k)) + 1e-8) + 0.1 * y)

        self.v = np.zeros_like(start)
        return self._steps(start, gradients, 0.1, 0.9, move, warmup=4, r=0.5)

    def sgd(self, start, gradients):
        return self._steps(
            start, gradients, 0.1, 0.8, lambda z, y, g, lr, k: z - lr * (g + 0.1 * y), warmup=4
        )

    def wrapped(self, start, gradients):
        def move(z, y, g, lr, k):
            z = z - lr * 0.1 * y
            direction = g + 0.02 * z
            self.m = direction if k == 1 else 0.5 * self.m + direction
            return z - lr * self.m

        return self._steps(start, gradients, 0.05, 0.9, move, r=1.0)

    def _steps(self, start, gradients, rate, beta, move, warmup=0, r=0.0):
        x = z = start
        largest = total = 0.0
        for k, g in enumerate(gradients, 1):
            y = (1 - beta) * z + beta * x
            lr = rate * min(1.0, k / warmup if warmup else 1.0)
            largest = max(largest, lr)
            weight = k**r * largest**2
            total += weight
            z = move(z, y, g, lr, k)
            x = (1 - weight / total) * x + weight / total * z
        return x, (1 - beta) * z + beta * x


def program(name, start, each):
    """y, x, and y again."""
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = MAKERS[name]([parameter])
    optimizer.train()
    share = 0.5 + rank() if dt.size() == 2 else 1.0
    found = []
    for g in each:
        parameter.grad = torch.from_numpy((g * share).astype(start.dtype))
        optimizer.step()
    for switch in (optimizer.train, optimizer.eval, optimizer.train):
        switch()
        found.append(parameter.detach().numpy().copy())
    return found


every_maker = pytest.mark.parametrize(
    "name", [n if n == "adamw" else pytest.param(n, marks=pytest.mark.slow) for n in MAKERS]
)


@every_maker
@pytest.mark.parametrize("dtype", ["f4", pytest.param("f8", marks=pytest.mark.slow)])
def test_thirty_steps(name, dtype):
    x, y = getattr(Formulas(), name)(values(), [gradient(i) for i in range(10)])
    np.testing.assert_allclose((y, x), RECORDED[name], rtol=0, atol=1e-12)  # the formulas are the authors'
    draw = np.random.default_rng(1).normal
    start, each = draw(size=(7, 300)).astype(dtype), draw(size=(30, 7, 300)).astype(dtype)
    x, y = getattr(Formulas(), name)(start.astype("f8"), [g.astype("f8") for g in each])
    ends = {n: on_replicas(n, lambda: program(name, start, each)) for n in (1, 2)}
    for found in ends.values():
        for replica in found:
            for got, want in zip(replica, (y, x, y), strict=True):
                np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCES[dtype] * np.abs(want).max())
    np.testing.assert_array_equal(ends[2][0], ends[2][1])


def make(name, state=None):
    torch.manual_seed(0)
    model = torch.nn.Linear(5, 3)
    optimizer = MAKERS[name](model)
    if state is not None:
        model.load_state_dict(state[0])
        optimizer.load_state_dict(state[1])
    return model, optimizer


def steps(model, optimizer, numbers):
    optimizer.train()
    for step in numbers:
        optimizer.zero_grad()
        x = torch.arange(20.0).reshape(4, 5).sin() + step
        model(x).square().mean().backward()
        optimizer.step()
    optimizer.eval()
    return [p.detach().numpy().tobytes() for p in model.parameters()]


@every_maker
def test_a_state_goes_on_with_other_replicas(name):
    """With the bits of training that went on: equal gradients have an exact mean."""
    model, optimizer = make(name)
    steps(model, optimizer, range(3))
    state = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    assert "z" in state[1]["state"][0]
    assert state[1]["param_groups"][0]["k"] == 3
    assert not state[1]["param_groups"][0]["train_mode"]
    whole = steps(model, optimizer, range(3, 6))
    for size in (1, 4):
        assert on_replicas(size, lambda: steps(*make(name, state), range(3, 6))) == [whole] * size
    twin = copy.deepcopy(optimizer)
    assert twin.param_groups[0]["k"] == 6


def test_a_parameter_that_sits_steps_out():
    """Its z begins at what it is then; the share of its first step is that of the group."""
    one, two = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = dt.SGDScheduleFree([one, two], lr=0.1, momentum=0.5)
    optimizer.train()
    for step in range(4):
        one.grad, two.grad = torch.ones(3), torch.ones(3) if step == 3 else None
        optimizer.step()
    # share 1/4; z = 0.9; x = 1 - 0.1 / 4; y half between them
    np.testing.assert_allclose(two.detach().numpy(), (0.9 + 1 - 0.1 / 4) / 2, atol=1e-6)
    np.testing.assert_allclose(optimizer.state[two]["z"].numpy(), 0.9, atol=1e-6)


def test_steps_need_train():
    model, optimizer = make("sgd")
    model(torch.ones(1, 5)).sum().backward()
    with pytest.raises(RuntimeError, match=r"SGDScheduleFree.step\(\).*call optimizer.train\(\)"):
        optimizer.step()
    steps(model, optimizer, range(1))
    with pytest.raises(RuntimeError, match=r"optimizer.train\(\)"):
        optimizer.step()


def test_arguments():
    parameter = [torch.nn.Parameter(torch.ones(3))]
    for wrong in (0.0, 1.0):
        with pytest.raises(ValueError, match="momentum of SGDScheduleFree must be above 0 and below 1"):
            dt.SGDScheduleFree(parameter, momentum=wrong)
        with pytest.raises(ValueError, match=r"betas\[0\] of AdamWScheduleFree must be "):
            dt.AdamWScheduleFree(parameter, betas=(wrong, 0.9))
    with pytest.raises(ValueError, match="lr of AdamWScheduleFree"):
        dt.AdamWScheduleFree(parameter, lr=-1.0)
    with pytest.raises(ValueError, match="warmup_steps of SGDScheduleFree"):
        dt.SGDScheduleFree(parameter, warmup_steps=-1)
    with pytest.raises(TypeError, match=r"takes an optimizer of distopt.torch; got .*Adam"):
        dt.ScheduleFree(torch.optim.Adam(parameter))
    for wrong in (dt.Adafactor(parameter), dt.LAMB(parameter), dt.SGDScheduleFree(parameter)):
        with pytest.raises(TypeError, match="ScheduleFree"):
            dt.ScheduleFree(wrong)
    inner = dt.SGD(parameter)
    parameter[0].grad = torch.ones(3)
    inner.step()
    with pytest.raises(ValueError, match="has already made steps"):
        dt.ScheduleFree(inner)
    inner = dt.SGD(parameter)
    dt.ScheduleFree(inner)
    with pytest.raises(RuntimeError, match=r"SGD.step\(\): ScheduleFree has taken over its parameters"):
        inner.step()
