"""The models by the name of Keras's module."""

from distopt.keras.model import Model
from distopt.keras.sequential import Sequential

__all__ = ["Model", "Sequential"]
