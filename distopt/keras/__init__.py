"""Models, layers and training loops with the API of Keras, for several replicas."""

from distopt import optimizers
from distopt.keras import (
    activations,
    backend,
    callbacks,
    constraints,
    data,
    experimental,
    initializers,
    layers,
    losses,
    metrics,
    models,
    regularizers,
)
from distopt.keras.layers import Input
from distopt.keras.models import Model, Sequential

__all__ = [
    "Input",
    "Model",
    "Sequential",
    "activations",
    "backend",
    "callbacks",
    "constraints",
    "data",
    "experimental",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "regularizers",
]
