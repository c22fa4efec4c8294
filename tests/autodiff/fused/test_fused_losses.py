"""Fused losses: first and second derivatives, torch's values, limits of clip."""

import numpy as np
import pytest

from distopt.autodiff import GradientTape
from distopt.autodiff.fused import losses as F
from distopt.core import Variable, constant

RNG = np.random.default_rng(5)
A, B = RNG.normal(size=(2, 6, 4))
LABELS = RNG.integers(0, 4, size=6)
WEIGHTS = RNG.uniform(0.5, 2, size=6)
#: Of (first, second) a scalar; the first is None where it has no gradient.
SCALARS = {
    "squared_error": (lambda a, b: np.sum(F.squared_error(a, b) * WEIGHTS), A, B),
    "squared_error_sum": (lambda a, b: F.squared_error_sum(a, b, 0.3), A, B),
    "softmax": (lambda a, b: np.sum(F.softmax_cross_entropy(a, b) * WEIGHTS), A, B),
    "softmax_sum": (lambda a, b: F.softmax_cross_entropy_sum(a, b, 0.3), A, B),
    "sparse": (lambda a, b: np.sum(F.sparse_softmax_cross_entropy(LABELS, b) * WEIGHTS), None, B),
    "sparse_sum": (lambda a, b: F.sparse_softmax_cross_entropy_sum(LABELS, b, 0.3), None, B),
    "sigmoid": (lambda a, b: np.sum(F.sigmoid_cross_entropy(a, b) * WEIGHTS[:, None]), A, B),
    "clip": (lambda a, b: np.sum(F.clip(b, -0.5, 0.7) ** 2 * A), None, B),
}


def slopes(f, at):
    """The gradients for those arguments that are not None."""
    variables = [None if x is None else Variable(x) for x in at]
    with GradientTape() as tape:
        value = f(*variables)
    return tape.gradient(value, [v for v in variables if v is not None])


def numeric(f, x, eps=1e-6):
    grad = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += eps
        down[i] -= eps
        grad[i] = (f(up) - f(down)) / (2 * eps)
    return grad


@pytest.mark.parametrize("name", SCALARS)
def test_gradients(name):
    f, a, b = SCALARS[name]
    got = [g.numpy() for g in slopes(f, (a, b))]
    want = [] if a is None else [numeric(lambda x: float(f(x, b)), a)]
    want.append(numeric(lambda x: float(f(a, x)), b))
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", SCALARS)
def test_second_derivatives(name):
    f, a, b = SCALARS[name]
    direction = np.cos(np.arange(b.size)).reshape(b.shape)
    variable = Variable(b)
    with GradientTape() as outer:
        with GradientTape() as inner:
            value = f(a, variable)
        along = np.sum(inner.gradient(value, variable) * direction)
    got = outer.gradient(along, variable).numpy()
    want = numeric(lambda x: float(np.sum(slopes(f, (a, x))[-1].numpy() * direction)), b)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


def test_persistent_tape_gives_the_same_gradient_twice():
    b = Variable(B)
    with GradientTape(persistent=True) as tape:
        value = F.sparse_softmax_cross_entropy_sum(LABELS, b, 1.0)
    first, second = (tape.gradient(value, b).numpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(b.numpy(), B)


@pytest.mark.torch
def test_values_of_torch():
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    a, b, labels = torch.tensor(A), torch.tensor(B), torch.tensor(LABELS)
    for got, want in [
        (F.squared_error(A, B), f.mse_loss(b, a, reduction="none").mean(-1)),
        (F.softmax_cross_entropy(A, B), f.cross_entropy(b, a, reduction="none")),
        (
            F.sparse_softmax_cross_entropy(LABELS, B),
            f.cross_entropy(b, labels, reduction="none"),
        ),
        (F.sigmoid_cross_entropy(A, B), f.binary_cross_entropy_with_logits(b, a, reduction="none")),
    ]:
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-12)


def test_clip_passes_the_gradient_at_its_limits():
    x = constant([-2.0, -1.0, 0.0, 1.0, 2.0])
    for low, high, want in [
        (-1, 1, [0, 1, 1, 1, 0]),
        (None, 1, [1, 1, 1, 1, 0]),
        (-1, None, [0, 1, 1, 1, 1]),
    ]:
        with GradientTape() as tape:
            tape.watch(x)
            y = F.clip(x, low, high)
        assert tape.gradient(y, x).numpy().tolist() == want


def test_more_axes_than_two():
    logits, labels = RNG.normal(size=(2, 3, 4)), RNG.integers(0, 4, size=(2, 3))
    got = F.sparse_softmax_cross_entropy(labels, logits)
    want = F.softmax_cross_entropy(np.eye(4)[labels], logits)
    assert got.shape == (2, 3)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    v = Variable(logits)
    with GradientTape() as tape:
        value = F.sparse_softmax_cross_entropy_sum(labels, v, 1.0)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(tape.gradient(value, v).numpy(), p - np.eye(4)[labels], rtol=1e-9, atol=1e-12)
