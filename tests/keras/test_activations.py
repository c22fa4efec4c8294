"""Activations: values (torch's), gradients (finite differences), dtypes, names."""

import math

import numpy as np
import pytest

from distopt.autodiff import GradientTape
from distopt.autodiff.fused.error_function import erf
from distopt.core import Variable, constant
from distopt.keras import activations as A

NAMES = sorted(A.registry.known)
X = np.random.default_rng(3).normal(size=(6, 5)) * 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_shape_and_dtype_stay(name, dtype):
    for make in (np.asarray, constant, Variable):
        x = make(X.astype(dtype))
        got = A.get(name)(x)
        assert (got.shape, got.dtype) == (X.shape, dtype)
        np.testing.assert_array_equal(np.asarray(x), X.astype(dtype))


@pytest.mark.parametrize("name", NAMES)
def test_first_and_second_derivative(name):
    function = A.get(name)
    weights = np.cos(np.arange(X.size)).reshape(X.shape)
    x = Variable(X)
    with GradientTape() as outer:
        with GradientTape() as inner:
            value = np.sum(function(x) * weights)
        slope = inner.gradient(value, x)
        along = np.sum(slope * np.sin(X))
    curve = outer.gradient(along, x)

    def gradient(at):
        at = constant(at)
        with GradientTape() as tape:
            tape.watch(at)
            value = np.sum(function(at) * weights)
        return tape.gradient(value, at).numpy()

    eps = 1e-5
    for index in [(0, 0), (2, 3), (5, 4), (3, 1)]:
        up, down = X.copy(), X.copy()
        up[index] += eps
        down[index] -= eps
        want = np.sum((np.asarray(function(up)) - np.asarray(function(down))) * weights) / (2 * eps)
        assert float(slope[index]) == pytest.approx(want, rel=1e-6, abs=1e-8)
        want = np.sum((gradient(up) - gradient(down)) * np.sin(X)) / (2 * eps)
        got = 0.0 if curve is None else float(curve[index])
        assert got == pytest.approx(want, rel=1e-5, abs=1e-7)


@pytest.mark.torch
def test_values_of_torch():
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    x = torch.tensor(X)
    for ours, theirs in [
        (A.relu, f.relu),
        (A.elu, f.elu),
        (A.selu, f.selu),
        (A.gelu, f.gelu),
        (lambda v: A.gelu(v, approximate=True), lambda v: f.gelu(v, approximate="tanh")),
        (A.sigmoid, torch.sigmoid),
        (A.tanh, torch.tanh),
        (A.softmax, lambda v: f.softmax(v, -1)),
        (lambda v: A.softmax(v, axis=0), lambda v: f.softmax(v, 0)),
        (A.softplus, f.softplus),
        (A.softsign, f.softsign),
        (A.swish, f.silu),
        (A.exponential, torch.exp),
        (lambda v: A.elu(v, 0.3), lambda v: f.elu(v, 0.3)),
        (lambda v: A.relu(v, alpha=0.1), lambda v: f.leaky_relu(v, 0.1)),
        (lambda v: A.relu(v, max_value=2.0), lambda v: v.clamp(0, 2)),
    ]:
        np.testing.assert_allclose(ours(X), theirs(x).numpy(), rtol=1e-12, atol=1e-14)


def test_values_of_keras():
    np.testing.assert_allclose(A.hard_sigmoid(np.array([-3.0, -1.0, 0.0, 4.0])), [0.0, 0.3, 0.5, 1.0])
    got = A.relu(np.array([-2.0, 0.5, 1.5, 9.0]), alpha=0.5, max_value=4.0, threshold=1.0)
    np.testing.assert_allclose(got, [-1.5, -0.25, 1.5, 4.0])


def test_extremes():
    x = np.array([[-1e4, -100.0, 0.0, 100.0]])
    for name in ("sigmoid", "tanh", "softmax", "softplus", "elu", "selu", "gelu", "swish", "hard_sigmoid"):
        v = Variable(x)
        with GradientTape() as tape:
            y = A.get(name)(v)
        assert np.isfinite(y.numpy()).all(), name
        assert np.isfinite(tape.gradient(y, v).numpy()).all(), name


def test_relu_has_no_slope_at_zero_and_keeps_nan():
    x = Variable([0.0, -1.0, 1.0])
    with GradientTape() as tape:
        y = A.relu(x)
    assert tape.gradient(y, x).numpy().tolist() == [0.0, 0.0, 1.0]
    assert np.isnan(np.asarray(A.relu(np.array([np.nan])))).all()


def test_erf():
    x = np.concatenate([np.linspace(-7, 7, 2001), [0.46875, 4.0, -4.0, 50.0, np.inf, -np.inf]])
    np.testing.assert_allclose(erf(x), [math.erf(v) for v in x], rtol=5e-16, atol=1e-16)
    assert np.isnan(erf(np.array([np.nan]))).all()


def test_softmax_of_a_vector():
    with pytest.raises(ValueError, match=r"at least two axes.*got shape \(3,\)"):
        A.softmax(np.zeros(3))


def test_names():
    assert A.get(None) is A.linear
    assert A.get("relu") is A.relu
    assert A.get(np.tanh) is np.tanh
    assert A.serialize(A.gelu) == "gelu"
    assert A.serialize(None) == "linear"
    assert A.deserialize("mine", {"mine": np.tanh}) is np.tanh
    with pytest.raises(ValueError, match=r"Unknown activation function: rellu\. Did you mean 'relu'"):
        A.get("rellu")
    with pytest.raises(TypeError, match="Could not interpret"):
        A.get(3)
