"""When gradients of variables are final: before the rest of the backward pass, not at its end."""

from functools import partial

import numpy as np
import pytest

import distopt as tf
from distopt.autodiff import defvjp, primitive
from distopt.autodiff.fused import dense
from distopt.core.tensor import as_array


@primitive
def marked(x, _note):
    return x * 1


defvjp(marked, lambda _ans, _x, note: lambda g: note() or g, None)


class Layers:
    """Three layers; the log tells what the backward pass does, one after the other."""

    def __init__(self, product):
        random = np.random.default_rng(0)
        self.log, self.product = [], product
        self.kernels = [tf.Variable(random.normal(size=(3, 3)), name=f"kernel {k}") for k in range(3)]
        for kernel in self.kernels:
            kernel.gradient_listener = lambda: lambda variable, _: self.log.append(variable.name[:-2])

    def gradients(self, used, watched=()):
        with tf.GradientTape() as tape:
            tape.watch(list(watched))
            x = np.ones((2, 3))
            for k, kernel in enumerate(used):
                x = marked(self.product(x, kernel), partial(self.log.append, f"product {k}"))
            loss = np.sum(x**2)
        return tape.gradient(loss, self.kernels)


@pytest.mark.parametrize("product", [dense, np.matmul])
@pytest.mark.parametrize("watched", [False, True])
def test_a_gradient_is_final_when_the_last_use_has_been_processed(product, watched):
    layers = Layers(product)
    layers.gradients(layers.kernels, layers.kernels if watched else ())
    assert layers.log == ["product 2", "kernel 2", "product 1", "kernel 1", "product 0", "kernel 0"]


def test_the_last_use_is_the_first_in_the_program():
    layers = Layers(dense)
    first, second, third = layers.kernels
    gradients = layers.gradients([first, second, first, third])
    assert layers.log[:2] == ["product 3", "kernel 2"]
    assert layers.log[-4:] == ["product 1", "kernel 1", "product 0", "kernel 0"]
    w, v, u = (kernel.numpy() for kernel in layers.kernels)
    x = np.ones((2, 3))
    g = 2 * (x @ w @ v @ w @ u) @ u.T
    expected = (x @ w @ v).T @ g + x.T @ (g @ w.T @ v.T)
    np.testing.assert_allclose(gradients[0].numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("product", [dense, np.matmul])
def test_it_is_final_before_the_gradient_of_the_input_is_computed(product):
    layers = Layers(product)
    last = layers.kernels[1]
    last.gradient_listener = lambda: lambda *_: as_array(last).fill(0)  # of which that of the input is made
    first, _, _ = layers.gradients(layers.kernels[:2])
    assert not first.numpy().any()
