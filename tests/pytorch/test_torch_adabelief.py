"""AdaBelief, which PyTorch does not have: the formulas of the paper, and numbers of the authors' program."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from replicated import on_replicas, rank  # noqa: E402

import distopt.torch as dt  # noqa: E402

pytestmark = pytest.mark.torch

TOLERANCES = {"f4": 1e-5, "f8": 1e-10}
AMSGRAD = {"amsgrad": True, "rectify": False, "weight_decay": 0.1, "weight_decouple": False, "eps": 1e-4}
CASES = [
    {},
    {"betas": (0.8, 0.9), "rectify": False, "weight_decay": 0.1},
    {"betas": (0.8, 0.9), **AMSGRAD},
    {
        "betas": (0.8, 0.9),
        "degenerated_to_sgd": False,
        "weight_decay": 0.1,
        "fixed_decay": True,
        "amsgrad": True,
    },
]
#: What adabelief_pytorch 0.2.1 makes of ten steps with lr=0.1, from ``values()`` with ``gradient(step)``.
RECORDED = [
    [0.7510523242611896, -2.153573626283518, 0.5193520774154153],
    [0.5014302882252338, -1.9822092837516263, 0.6826549106169706],
    [0.4963696649815555, -1.904622386510122, 0.17433588575232573],
    [0.316386019610974, -0.6989445373296448, 0.17945848396416078],
]


def values():
    return np.array([1.0, -2.0, 0.5])


def gradient(step):
    return np.array([np.sin(step + 1.0), np.cos(2.0 * step), 0.1 * (step % 3) - 0.1])


def adabelief(
    w, gradients, lr, betas=(0.9, 0.999), eps=1e-16, weight_decay=0.0, amsgrad=False, weight_decouple=True,
    fixed_decay=False, rectify=True, degenerated_to_sgd=True,
):  # fmt: skip
    """Algorithm 2 of Zhuang et al. 2020, with the rectification of Liu et al. 2019."""
    beta1, beta2 = betas
    m = s = largest = np.zeros_like(w)
    for t, g in enumerate(gradients, 1):
        if weight_decouple:
            w = w * (1 - weight_decay * (1 if fixed_decay else lr))
        else:
            g = g + weight_decay * w
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * (g - m) ** 2 + eps
        largest = np.maximum(largest, s)
        m_hat, correction = m / (1 - beta1**t), np.sqrt(1 - beta2**t)
        if not rectify:
            w = w - lr * m_hat / (np.sqrt(largest if amsgrad else s) / correction + eps)
            continue
        longest = 2 / (1 - beta2) - 1
        rho = longest - 2 * t * beta2**t / (1 - beta2**t)
        if rho >= 5:
            r = (rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho)
            w = w - lr * np.sqrt(r) * correction * m_hat / (np.sqrt(s) + eps)
        elif degenerated_to_sgd:
            w = w - lr * m_hat
    return w


def ends(options, dtype, steps, start=values, gradient=gradient):
    parameter = torch.nn.Parameter(torch.from_numpy(start().astype(dtype)))
    optimizer = dt.AdaBelief([parameter], lr=0.1, **options)
    for step in range(steps):
        parameter.grad = torch.from_numpy((gradient(step) * (0.5 + rank())).astype(dtype))
        optimizer.step()
    return parameter.detach().numpy().copy(), optimizer


@pytest.mark.parametrize(
    ("dtype", "options", "recorded"),
    [
        pytest.param(d, *pair, marks=[] if (d, pair[0]) == ("f4", {}) else [pytest.mark.slow])
        for d in TOLERANCES
        for pair in zip(CASES, RECORDED, strict=True)
    ],
)
def test_thirty_steps(dtype, options, recorded):
    want = adabelief(values(), [gradient(i) for i in range(10)], 0.1, **options)
    np.testing.assert_allclose(want, recorded, rtol=0, atol=1e-12)  # the formulas are the authors'
    draw = np.random.default_rng(1).normal
    start, each = draw(size=(7, 300)).astype(dtype), draw(size=(30, 7, 300)).astype(dtype)
    wide = [g.astype("f8") for g in each]
    if options.get("eps", 0) == 0:
        wide = [np.where(np.abs(g) < 0.05, 0.05, g) for g in wide]  # no division of rounding by rounding
        each = np.asarray(wide, dtype)
    want = adabelief(start.astype("f8"), [g.astype("f8") for g in each], 0.1, **options)

    def program():
        return ends(options, dtype, 30, lambda: start, lambda step: each[step])[0]

    for got in on_replicas(2, program):
        np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCES[dtype] * np.abs(want).max())


@pytest.mark.slow
def test_a_state_goes_on_with_other_replicas():
    found, optimizer = ends({**AMSGRAD}, "f4", 4)
    assert set(optimizer.state_dict()["state"][0]) == {"step", "exp_avg", "exp_avg_var", "max_exp_avg_var"}
    state = optimizer.state_dict()

    def program():
        parameter = torch.nn.Parameter(torch.from_numpy(found.copy()))
        again = dt.AdaBelief([parameter])
        again.load_state_dict(state)
        parameter.grad = torch.ones(3)
        again.step()
        return parameter.detach().numpy().tobytes()

    one = on_replicas(1, program)
    assert on_replicas(4, program) == one * 4


def test_arguments():
    parameter = [torch.nn.Parameter(torch.ones(3))]
    with pytest.raises(ValueError, match=r"betas\[0\] of AdaBelief must be in \[0, 1\)"):
        dt.AdaBelief(parameter, betas=(1.0, 0.9))
    for name in ("lr", "eps", "weight_decay"):
        with pytest.raises(ValueError, match=f"{name} of AdaBelief"):
            dt.AdaBelief(parameter, **{name: -0.1})
    optimizer = dt.AdaBelief(parameter, print_change_log=False)
    assert "AdaBelief(lr=0.001" in optimizer.describe()
