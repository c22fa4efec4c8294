"""Every fused operation there is: first and second derivatives by all arguments, or an error."""

import importlib
import pkgutil
from typing import Any

import numpy as np
import pytest
from derivatives import check_derivatives

import distopt.autodiff
import distopt.keras
import distopt.math
from distopt.autodiff import GradientTape
from distopt.autodiff.fused import Window, activations, dense, error_function, losses, normalization, windows
from distopt.autodiff.linked import linked
from distopt.core import Variable
from distopt.core.tensor import as_array
from distopt.keras import activations as keras_activations
from distopt.math import functions

RNG = np.random.default_rng(11)
LABELS = np.array([[1, 0], [3, 2]])
WINDOW, SHAPE = Window((2, 2), (1, 2)), (1, 3, 4, 2)
APART = RNG.permutation(24).reshape(SHAPE) / 5.0 - 2.0  # no two are equal


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


def doubled(value: Any) -> Any:
    """The sum over two replicas that see the same."""
    return 2 * value


def own(value: Any) -> Any:
    return value


def batch_norm(total: Any) -> Any:
    def normalized(x: Any, gamma: Any, beta: Any) -> Any:
        statistics = normalization.batch_statistics(as_array(x), total)
        return normalization.batch_norm(x, gamma, beta, statistics, 0.1, total)

    return normalized


BEST = windows.max_pool(APART, WINDOW)

#: Primitive -> what is called, with all arguments that have a derivative.
CASES: dict[Any, list[tuple[Any, list[np.ndarray]]]] = {
    activations.softmax: [
        (activations.softmax, [normal(3, 4)]),
        (lambda x: activations.softmax(x, axis=0), [normal(3, 2, 2)]),
    ],
    keras_activations._activate: [
        (lambda x, name=name: keras_activations._activate(x, name), [normal(3, 4)])
        for name in sorted(activations.FUSED_ACTIVATIONS - {"linear"})
    ],
    dense: [
        *(
            (lambda x, k, b, name=name: dense(x, k, b, name), [normal(2, 3), normal(3, 2), normal(2)])
            for name in sorted(activations.FUSED_ACTIVATIONS)
        ),
        (lambda x, k: dense(x, k, None, "tanh"), [normal(2, 2, 3), normal(3, 2)]),
        (lambda x, k: dense(x, k), [normal(2, 1), normal(1, 65)]),  # many units go another way
    ],
    error_function.erf: [(error_function.erf, [normal(3, 4)])],
    functions._sigmoid: [(functions._sigmoid, [normal(3, 4)])],
    functions._softplus: [(functions._softplus, [normal(3, 4)])],
    normalization.layer_norm: [
        (lambda x, g, b: normalization.layer_norm(x, g, b, 0.1), [normal(*shape, 3), normal(3), normal(3)])
        for shape in ((4,), (2, 2))
    ],
    normalization.batch_norm: [
        (batch_norm(own), [normal(*shape, 3), normal(3), normal(3)]) for shape in ((4,), (2, 1, 2))
    ],
    normalization._shared: [(lambda x: normalization._shared(x, doubled), [normal(3)])],
    linked: [(lambda x: linked(x, 2 * as_array(x), doubled), [normal(3)])],
    losses.squared_error: [(losses.squared_error, [normal(2, 3), normal(2, 3)])],
    losses.squared_error_sum: [
        (lambda t, y: losses.squared_error_sum(t, y, 0.3), [normal(2, 3), normal(2, 3)])
    ],
    losses._softmax_losses: [
        (losses.softmax_cross_entropy, [normal(2, 3), normal(2, 3)]),
        (lambda t, y: losses.softmax_cross_entropy_sum(t, y, 0.3), [normal(2, 2, 3), normal(2, 2, 3)]),
    ],
    losses._sparse_losses: [
        (lambda y: losses.sparse_softmax_cross_entropy(LABELS, y), [normal(2, 2, 4)]),
        (lambda y: losses.sparse_softmax_cross_entropy_sum(LABELS, y, 0.3), [normal(2, 2, 4)]),
    ],
    losses.sigmoid_cross_entropy: [(losses.sigmoid_cross_entropy, [normal(2, 3), normal(2, 3)])],
    losses.clip: [(lambda x: losses.clip(x, low, high), [normal(3, 4)]) for low, high in ((-0.5, 0.7),)]
    + [(lambda x: losses.clip(x, None, 0.7), [normal(3, 4)])],
    windows.pad_images: [(lambda x: windows.pad_images(x, (1, 0), (0, 2), 0.5), [APART])],
    windows.columns: [(lambda x: windows.columns(x, WINDOW), [APART])],
    windows.fold: [(lambda g: windows.fold(g, WINDOW, SHAPE), [normal(1, 2, 2, 8)])],
    windows.average_pool: [(lambda x: windows.average_pool(x, WINDOW), [APART])],
    windows.spread: [(lambda g: windows.spread(g, WINDOW, SHAPE), [normal(1, 2, 2, 2)])],
    windows.max_pool: [(lambda x: windows.max_pool(x, WINDOW), [APART])],
    windows.give_back: [(lambda g: windows.give_back(g, APART, BEST, WINDOW), [normal(1, 2, 2, 2)])],
    windows.pick: [(lambda h: windows.pick(h, APART, BEST, WINDOW), [normal(*SHAPE)])],
}


def primitives() -> dict[str, Any]:
    """All that the library makes by ``@primitive``."""
    found = {}
    modules = []
    for package in (distopt.autodiff, distopt.keras, distopt.math):
        for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            modules.append(importlib.import_module(info.name))
    for module in modules:
        for value in vars(module).values():
            if hasattr(value, "_traced"):
                found[f"{value.__module__}.{value.__name__}"] = value
    return found


@pytest.mark.parametrize("name", primitives())
def test_first_and_second_derivatives(name: str) -> None:
    for function, values in CASES[primitives()[name]]:
        check_derivatives(function, *values)


#: Calls in which an argument is traced that has no derivative.
REFUSED = {
    "layer_norm": lambda x, v: normalization.layer_norm(x, np.ones(2), np.zeros(2), v),
    "batch_norm": lambda x, v: normalization.batch_norm(
        x, np.ones(2), np.zeros(2), normalization.batch_statistics(as_array(x), own), v, own
    ),
    "squared_error_sum": lambda x, v: losses.squared_error_sum(x, x, v),
    "softmax": lambda x, v: losses.softmax_cross_entropy_sum(x, x, v),
    "sparse": lambda x, v: losses.sparse_softmax_cross_entropy_sum(np.zeros(3, int), x, v),
    "clip low": lambda x, v: losses.clip(x, v, None),
    "clip high": lambda x, v: losses.clip(x, None, v),
    "pad": lambda x, v: windows.pad_images(np.reshape(x, (1, 3, 2, 1)), (1, 1), (0, 0), v),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_argument_without_a_derivative_is_an_error(name: str) -> None:
    x, v = Variable(normal(3, 2)), Variable(np.array(0.5))
    with GradientTape() as tape:
        value = np.sum(REFUSED[name](x, v))
    with pytest.raises(NotImplementedError, match="has no derivative for argument"):
        tape.gradient(value, [x, v])


def test_means_of_integers_are_refused_not_cut_off() -> None:
    with pytest.raises(TypeError, match="takes floats; got dtype int64"):
        windows.average_pool(np.full((1, 2, 2, 1), 60), WINDOW)
    with pytest.raises(TypeError, match="takes floats; got dtype uint8"):
        normalization.layer_norm(np.full((2, 1), 60, np.uint8), np.ones(1), np.zeros(1), 1e-3)
