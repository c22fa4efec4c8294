"""Converts schedules to configs and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distopt.core.registry import Registry, by_name, serialize_object
from distopt.optimizers.schedules.cosine_decay import CosineDecay
from distopt.optimizers.schedules.cosine_decay_restarts import CosineDecayRestarts
from distopt.optimizers.schedules.exponential_decay import ExponentialDecay
from distopt.optimizers.schedules.inverse_time_decay import InverseTimeDecay
from distopt.optimizers.schedules.linear_cosine_decay import LinearCosineDecay
from distopt.optimizers.schedules.noisy_linear_cosine_decay import NoisyLinearCosineDecay
from distopt.optimizers.schedules.one_cycle import OneCycle
from distopt.optimizers.schedules.piecewise_constant_decay import PiecewiseConstantDecay
from distopt.optimizers.schedules.polynomial_decay import PolynomialDecay
from distopt.optimizers.schedules.schedule import LearningRateSchedule
from distopt.optimizers.schedules.warmup_stable_decay import WarmupStableDecay

__all__ = ["deserialize", "serialize"]

registry = Registry(
    "decay",
    by_name(
        CosineDecay,
        CosineDecayRestarts,
        ExponentialDecay,
        InverseTimeDecay,
        LinearCosineDecay,
        NoisyLinearCosineDecay,
        OneCycle,
        PiecewiseConstantDecay,
        PolynomialDecay,
        WarmupStableDecay,
    ),
)


def serialize(learning_rate_schedule: LearningRateSchedule) -> Any:
    """Returns the config of a schedule, ``{"class_name": ..., "config": {...}}``.

    >>> from distopt.optimizers.schedules import ExponentialDecay
    >>> serialize(ExponentialDecay(0.1, 10, 0.5))["class_name"]
    'ExponentialDecay'
    """
    return serialize_object(learning_rate_schedule)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Creates a schedule from the result of :func:`serialize`.

    Args:
        config: ``{"class_name": ..., "config": {...}}``. Class names are case-sensitive.
        custom_objects: your own classes by name.

    Raises:
        ValueError: the class is unknown, or the config is malformed.
    """
    return registry.deserialize(config, custom_objects)
