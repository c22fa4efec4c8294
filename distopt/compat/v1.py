"""``tf.compat.v1``: those of its names that the documents of ``tf.keras.optimizers`` use."""

from distopt import keras
from distopt.core import Variable, VariableAggregation, VariableSynchronization

__all__ = ["Variable", "VariableAggregation", "VariableSynchronization", "keras"]
