"""An example of every layer, loss and metric that has a name, for tests that run over all of them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from distopt.keras import layers as L
from distopt.keras import losses, metrics

__all__ = [
    "LAYERS",
    "LABELS",
    "NO_ARITHMETIC",
    "PREDICTIONS",
    "class_labels",
    "loss_of",
    "metric_of",
    "names_of",
    "takes_classes",
]

IMAGES = (2, 4, 5, 2)
#: Name -> (layer of a dtype, shape of its input), several ways to make one.
LAYERS: dict[str, list[tuple[Callable[[str], L.Layer], tuple[int, ...]]]] = {
    "Activation": [(lambda dtype: L.Activation("tanh", dtype=dtype), (4, 3))],
    "AveragePooling2D": [
        (lambda dtype: L.AveragePooling2D(2, dtype=dtype), IMAGES),
        (lambda dtype: L.AveragePooling2D(3, 2, "same", dtype=dtype), IMAGES),
    ],
    "BatchNormalization": [
        (lambda dtype: L.BatchNormalization(dtype=dtype), (4, 3)),
        (lambda dtype: L.BatchNormalization(scale=False, dtype=dtype), (2, 2, 3)),
    ],
    "Conv2D": [
        (lambda dtype: L.Conv2D(2, 2, activation="tanh", dtype=dtype), IMAGES),
        (lambda dtype: L.Conv2D(2, 3, 2, "same", activation="sigmoid", dtype=dtype), IMAGES),
    ],
    "Dense": [
        (lambda dtype: L.Dense(2, "softplus", dtype=dtype), (4, 3)),
        (lambda dtype: L.Dense(2, "softmax", use_bias=False, dtype=dtype), (2, 2, 3)),
    ],
    "Dropout": [(lambda dtype: L.Dropout(0.5, seed=1, dtype=dtype), (4, 3))],
    "Embedding": [(lambda dtype: L.Embedding(12, 2, dtype=dtype), (2, 3))],
    "Flatten": [(lambda dtype: L.Flatten(dtype=dtype), (2, 3, 2))],
    "GlobalAveragePooling2D": [(lambda dtype: L.GlobalAveragePooling2D(dtype=dtype), IMAGES)],
    "InputLayer": [(lambda dtype: L.InputLayer(input_shape=(3,), dtype=dtype), (4, 3))],
    "LayerNormalization": [
        (lambda dtype: L.LayerNormalization(dtype=dtype), (4, 3)),
        (lambda dtype: L.LayerNormalization(center=False, dtype=dtype), (2, 2, 3)),
    ],
    "MaxPooling2D": [
        (lambda dtype: L.MaxPooling2D(2, dtype=dtype), IMAGES),
        (lambda dtype: L.MaxPooling2D(3, 2, "same", dtype=dtype), IMAGES),
    ],
    "Reshape": [(lambda dtype: L.Reshape((-1,), dtype=dtype), (2, 3, 2))],
}
#: Layers that only move elements, of whatever kind they are.
NO_ARITHMETIC = ("Flatten", "InputLayer", "Reshape")


def _shares(seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).uniform(0.1, 1.0, size=(5, 4))
    return values / values.sum(axis=-1, keepdims=True)


#: ``[5, 4]`` floats that every loss and metric can take: probabilities of four classes.
LABELS, PREDICTIONS = _shares(1), _shares(2)


def names_of(registry: Mapping[str, Any]) -> list[str]:
    """Its names; of several for one thing the last."""
    return list({id(thing): name for name, thing in registry.items()}.values())


def takes_classes(name: str) -> bool:
    """Whether labels are numbers of classes."""
    return "sparse" in name.lower()


def class_labels() -> np.ndarray:
    """``[5]`` numbers of classes, of which 0 and 1 are Booleans as well."""
    return np.array([0, 1, 1, 0, 1])


def loss_of(name: str) -> losses.Loss:
    """The loss that a model makes of a name."""
    return losses.for_model(name)


def metric_of(name: str) -> metrics.Metric:
    """The metric that a model makes of a name."""
    if name == "MeanMetricWrapper":
        return metrics.MeanMetricWrapper(metrics.mean_absolute_error)
    options: dict[str, Any] = {"multi_label": True} if name == "AUC" else {}
    return metrics.AUC(**options) if name == "AUC" else metrics.for_model(name, (5, 4), (5, 4))
