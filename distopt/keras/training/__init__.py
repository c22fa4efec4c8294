"""What compile, fit, evaluate and predict are made of."""

from distopt.keras.training.accumulation import GradientAccumulator
from distopt.keras.training.compiled import Compiled
from distopt.keras.training.compiled_loss import CompiledLoss
from distopt.keras.training.compiled_metrics import CompiledMetrics

__all__ = ["Compiled", "CompiledLoss", "CompiledMetrics", "GradientAccumulator"]
