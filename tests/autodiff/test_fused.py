"""Fused primitives: values against NumPy and torch, gradients against finite differences, twice too."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from distopt.autodiff import GradientTape
from distopt.autodiff.fused import (
    FUSED_ACTIVATIONS,
    Window,
    average_pool,
    batch_norm,
    batch_statistics,
    columns,
    dense,
    layer_norm,
    max_pool,
    pad_images,
    softmax,
)
from distopt.core import Variable
from distopt.core.tensor import as_array

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

RNG = np.random.default_rng(3)


def weighted(value: Any) -> Any:
    """A scalar whose gradient differs from element to element."""
    weights = np.cos(np.arange(value.size, dtype=value.dtype)).reshape(value.shape)
    return np.sum(value * weights)


def check_gradients(func: Callable[..., Any], *arrays: np.ndarray, rtol: float = 1e-6) -> None:
    """The tape's gradients of every argument against central differences, in float64."""
    variables = [Variable(a) for a in arrays]
    with GradientTape() as tape:
        loss = weighted(func(*variables))
    gradients = tape.gradient(loss, variables)
    for k, (array, gradient) in enumerate(zip(arrays, gradients, strict=True)):
        numeric = np.zeros_like(array)
        for i in np.ndindex(array.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [a.copy() for a in arrays]
                moved[k][i] += step
                ends.append(float(weighted(as_array(func(*moved)))))
            numeric[i] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(gradient, numeric, rtol=rtol, atol=1e-7, err_msg=f"argument {k}")


@pytest.mark.parametrize("activation", sorted(FUSED_ACTIVATIONS))
@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3)], ids=["matrix", "sequence"])
def test_dense_gradients(activation: str, shape: tuple[int, ...]) -> None:
    x, kernel, bias = RNG.normal(size=shape), RNG.uniform(-1, 1, (3, 4)), RNG.normal(size=4)
    check_gradients(lambda x, k, b: dense(x, k, b, activation), x, kernel, bias)
    check_gradients(lambda x, k: dense(x, k, None, activation), x, kernel)


@pytest.mark.parametrize("activation", sorted(FUSED_ACTIVATIONS - {"linear", "exponential"}))
def test_fused_activations_are_those_of_torch(activation: str) -> None:
    z = np.linspace(-30, 30, 61).reshape(1, -1)
    ours = dense(z, np.eye(61), None, activation)
    theirs = getattr(torch.nn.functional, activation)(torch.tensor(z)).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_dense_keeps_float32_and_skips_what_nobody_asked_for() -> None:
    x = RNG.normal(size=(5, 3)).astype(np.float32)
    kernel, bias = Variable(np.ones((3, 4), np.float32)), Variable(np.zeros(4, np.float32))
    with GradientTape() as tape:
        y = dense(x, kernel, bias, "relu")
    assert y.dtype == np.float32
    found = tape.gradient(y, [kernel, bias])
    assert [g.dtype for g in found] == [np.float32, np.float32]
    np.testing.assert_allclose(found[0], x.T @ (np.asarray(y) > 0).astype(np.float32), rtol=1e-6)


def test_dense_of_no_examples_has_zero_gradients() -> None:
    kernel = Variable(np.ones((3, 4)))
    with GradientTape() as tape:
        loss = np.sum(dense(np.zeros((0, 3)), kernel, None, "relu"))
    assert tape.gradient(loss, kernel).numpy().tolist() == np.zeros((3, 4)).tolist()


def test_dense_can_be_differentiated_twice() -> None:
    x, kernel = RNG.normal(size=(2, 3)), RNG.normal(size=(3, 1))

    def slope(k: Any) -> Any:
        v = Variable(x)
        with GradientTape() as inner:
            y = np.sum(dense(v, k, None, "tanh"))
        return inner.gradient(y, v)

    check_gradients(slope, kernel)


def test_softmax() -> None:
    x = RNG.normal(size=(3, 4))
    check_gradients(softmax, x)
    large = softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]]))
    np.testing.assert_allclose(large, [[0.5, 0.5], [0.0, 1.0]])
    assert softmax(np.zeros((0, 4))).shape == (0, 4)


WINDOWS = [Window((2, 2), (2, 2)), Window((3, 2), (1, 2)), Window((3, 3), (2, 2))]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_windows_gradients(window: Window) -> None:
    x = RNG.permutation(2 * 5 * 6 * 2).reshape(2, 5, 6, 2) / 7.0  # no ties
    for func in (columns, average_pool, max_pool):
        check_gradients(lambda x, func=func: func(x, window), x)
    check_gradients(lambda x: pad_images(x, (1, 0), (2, 1)), x)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_pools_are_those_of_torch(window: Window) -> None:
    x = RNG.normal(size=(2, 7, 6, 3)).astype(np.float32)
    image = torch.tensor(x).permute(0, 3, 1, 2)
    for ours, theirs in (
        (max_pool, torch.nn.functional.max_pool2d),
        (average_pool, torch.nn.functional.avg_pool2d),
    ):
        expected = theirs(image, window.size, window.strides).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(ours(x, window), expected, rtol=1e-6)


def test_of_equal_largest_elements_the_first_gets_the_gradient() -> None:
    v = Variable(np.zeros((1, 2, 2, 1)))
    with GradientTape() as tape:
        y = max_pool(v, Window((2, 2), (2, 2)))
    assert tape.gradient(y, v).numpy().reshape(-1).tolist() == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("func", [columns, average_pool, max_pool])
def test_windows_can_be_differentiated_twice(func: Callable[..., Any]) -> None:
    window = Window((2, 2), (1, 1))

    def slope(x: Any) -> Any:
        v = x if isinstance(x, Variable) else Variable(x)
        with GradientTape() as inner:
            y = np.sum(func(v * v, window) ** 2)
        return inner.gradient(y, v)

    check_gradients(slope, RNG.permutation(18).reshape(1, 3, 3, 2) / 5.0 + 0.1, rtol=1e-5)


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 5)])
def test_layer_norm(shape: tuple[int, ...]) -> None:
    x, gamma, beta = RNG.normal(size=shape), RNG.normal(size=5), RNG.normal(size=5)
    check_gradients(lambda x, g, b: layer_norm(x, g, b, 1e-3), x, gamma, beta, rtol=1e-5)
    theirs = torch.nn.functional.layer_norm(
        torch.tensor(x), (5,), torch.tensor(gamma), torch.tensor(beta), 1e-3
    )
    np.testing.assert_allclose(layer_norm(x, gamma, beta, 1e-3), theirs.numpy(), rtol=1e-9)


def own(value: Any) -> Any:
    return value


@pytest.mark.parametrize("shape", [(6, 3), (2, 2, 3, 3)])
def test_batch_norm(shape: tuple[int, ...]) -> None:
    x, gamma, beta = RNG.normal(size=shape), RNG.normal(size=3), RNG.normal(size=3)

    def normalized(x: Any, gamma: Any, beta: Any) -> Any:
        return batch_norm(x, gamma, beta, batch_statistics(as_array(x), own), 1e-3, own)

    check_gradients(normalized, x, gamma, beta, rtol=1e-5)
