"""Every registered layer and loss: first and second derivatives by inputs and weights."""

from typing import Any

import numpy as np
import pytest
import registered
from derivatives import check_derivatives

from distopt.autodiff import GradientTape
from distopt.core import Variable
from distopt.keras import activations, losses
from distopt.keras.layers import Dropout, identify
from distopt.keras.losses import huber
from distopt.keras.losses import names as loss_names

RNG = np.random.default_rng(3)
LOSSES = {
    # Once each, whatever the number of its names.
    **{
        loss.fn.__name__: loss
        for loss in map(registered.loss_of, loss_names.registry.known)
        if loss.fn is not huber
    },
    "categorical of logits": losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
    "binary of logits": losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1),
    "sparse of logits": losses.SparseCategoricalCrossentropy(from_logits=True),
}


def called(layer: Any, training: bool) -> Any:
    """The layer as a function, the same at every call; further arguments are its weights."""

    def call(inputs: Any, *_weights: Any) -> Any:
        if isinstance(layer, Dropout):
            layer.set_state({"seed": 1, "calls": 0})
        return layer(inputs, training=training)

    return call


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", identify.registry.known)
def test_layers(name: str, training: bool) -> None:
    for make, shape in registered.LAYERS[name]:
        layer, size = make("float64"), int(np.prod(shape))
        x = RNG.permutation(size).reshape(shape) / size * 3 - 1  # no two are equal
        call = called(layer, training)
        if name == "Embedding":
            ids = RNG.integers(0, 12, size=shape)
            layer(ids)
            check_derivatives(lambda *_table, call=call, ids=ids: call(ids), *layer.trainable_weights)
        else:
            layer(x)
            for weight in layer.trainable_weights:
                weight.assign(RNG.normal(size=weight.shape))
            check_derivatives(call, x, *layer.trainable_weights)


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    """Huber's is computed in float32, whatever the arguments are, and has a test of its own."""
    loss = LOSSES[name]
    for call in (loss, loss.call):
        if registered.takes_classes(name):
            labels = registered.class_labels()
            check_derivatives(lambda y, call=call: call(labels, y), registered.PREDICTIONS)
        else:
            check_derivatives(call, registered.LABELS, registered.PREDICTIONS)


def gradient(call: Any, x: np.ndarray, turned: bool) -> np.ndarray:
    """By ``x``, which the function sees as an array in rows, or in columns if ``turned``."""
    v = Variable(np.ascontiguousarray(np.transpose(x)) if turned else x)
    with GradientTape() as tape:
        value = np.sum(np.sin(call(np.transpose(v * 1.0) if turned else v * 1.0)))
    found = tape.gradient(value, v).numpy()
    return np.transpose(found) if turned else found


def functions() -> dict[str, tuple[Any, np.ndarray]]:
    """What takes one array of floats: layers, losses of predictions, activations."""
    found: dict[str, tuple[Any, np.ndarray]] = {}
    for name, examples in registered.LAYERS.items():
        if name != "Embedding":
            for i, (make, shape) in enumerate(examples):
                found[f"{name} {i}"] = called(make("float64"), True), RNG.normal(size=shape)
    for name, loss in LOSSES.items():
        labels = registered.class_labels() if registered.takes_classes(name) else registered.LABELS
        found[name] = lambda y, loss=loss, labels=labels: loss(labels, y), registered.PREDICTIONS
    for name in activations.registry.known:
        found[f"activation {name}"] = activations.get(name), RNG.normal(size=(4, 3))
    return found


@pytest.mark.parametrize("name", functions())
def test_the_order_of_elements_in_memory_does_not_matter(name: str) -> None:
    call, x = functions()[name]
    np.testing.assert_allclose(gradient(call, x, True), gradient(call, x, False), rtol=1e-9, atol=1e-12)
