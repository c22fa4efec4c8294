"""Learning-rate schedules: learning rates that depend on the step."""

from distopt.optimizers.schedules.cosine_decay import CosineDecay
from distopt.optimizers.schedules.cosine_decay_restarts import CosineDecayRestarts
from distopt.optimizers.schedules.exponential_decay import ExponentialDecay
from distopt.optimizers.schedules.inverse_time_decay import InverseTimeDecay
from distopt.optimizers.schedules.linear_cosine_decay import LinearCosineDecay
from distopt.optimizers.schedules.linear_scaling import LinearScaling
from distopt.optimizers.schedules.noisy_linear_cosine_decay import NoisyLinearCosineDecay
from distopt.optimizers.schedules.one_cycle import OneCycle
from distopt.optimizers.schedules.piecewise_constant_decay import PiecewiseConstantDecay
from distopt.optimizers.schedules.polynomial_decay import PolynomialDecay
from distopt.optimizers.schedules.schedule import LearningRateSchedule
from distopt.optimizers.schedules.serialization import deserialize, registry, serialize
from distopt.optimizers.schedules.warmup_stable_decay import WarmupStableDecay

__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "LinearCosineDecay",
    "LinearScaling",
    "NoisyLinearCosineDecay",
    "OneCycle",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "WarmupStableDecay",
    "deserialize",
    "serialize",
]

registry.add(LinearScaling)
