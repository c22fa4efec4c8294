"""The pipeline of an optimizer in one line of words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distopt import distribute
from distopt.core.tensor import TensorLike
from distopt.engine.clip import Clip
from distopt.engine.step import StepEngine

if TYPE_CHECKING:
    from distopt.optimizers.optimizer import Optimizer

__all__ = ["pipeline_text", "settings_text"]


def pipeline_text(optimizer: Optimizer) -> str:
    """Aggregation, transformation and update as they are now in force, joined by arrows."""
    clips = Clip(optimizer.clipvalue, optimizer.clipnorm, optimizer.global_clipnorm)
    replicas = distribute.get_strategy().num_replicas_in_sync
    over = f"{_name(optimizer.gradient_aggregator)} over {replicas} replica{'s' if replicas > 1 else ''}"
    config = {key: value for key, value in optimizer.get_config().items() if key not in _SHOWN_APART}
    update = f"{type(optimizer).__name__}({', '.join(f'{k}={_value(v)}' for k, v in config.items())})"
    transformers = [_name(transformer) for transformer in optimizer.gradient_transformers]
    stages = " -> ".join(part for part in (over, str(clips), *transformers, update) if part)
    context = distribute.get_replica_context()
    if context is None or replicas == 1:
        return stages
    return f"{stages}\n{StepEngine.of(context).describe()}"


def settings_text(optimizer: Optimizer) -> str:
    """The hyperparameters and clips with all their digits, which replicas must have in common."""
    clips = {"clipnorm": optimizer.clipnorm, "clipvalue": optimizer.clipvalue}
    settings = {**optimizer._hyper, **clips, "global_clipnorm": optimizer.global_clipnorm}
    return ", ".join(f"{name}={_exact(value)}" for name, value in sorted(settings.items()))


def _exact(value: Any) -> str:
    if isinstance(value, (TensorLike, int, float)):
        return f"{float(value):.9g}"
    return "None" if value is None else type(value).__name__


_SHOWN_APART = ("name", "clipnorm", "clipvalue", "global_clipnorm")


def _name(function: Any) -> str:
    return getattr(function, "__name__", None) or str(function)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("class_name", value))
    return str(value) if isinstance(value, (bool, str)) or value is None else f"{float(value):g}"
