"""A small set of layers, and the base class of custom layers."""

from distopt.keras.layers.activation import Activation
from distopt.keras.layers.convolution import Conv2D
from distopt.keras.layers.dense import Dense
from distopt.keras.layers.dropout import Dropout
from distopt.keras.layers.embedding import Embedding
from distopt.keras.layers.identify import deserialize, serialize
from distopt.keras.layers.layer import Layer
from distopt.keras.layers.normalization import BatchNormalization, LayerNormalization
from distopt.keras.layers.pooling import AveragePooling2D, GlobalAveragePooling2D, MaxPooling2D
from distopt.keras.layers.shape import Flatten, Input, InputLayer, Reshape
from distopt.keras.layers.spec import InputSpec

__all__ = [
    "Activation",
    "AveragePooling2D",
    "BatchNormalization",
    "Conv2D",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAveragePooling2D",
    "Input",
    "InputLayer",
    "InputSpec",
    "Layer",
    "LayerNormalization",
    "MaxPooling2D",
    "Reshape",
    "deserialize",
    "serialize",
]
