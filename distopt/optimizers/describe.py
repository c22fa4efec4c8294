"""Descriptions of an optimizer, for users and for messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from distopt import aggregators, distribute
from distopt.collectives import EXACT
from distopt.core.tensor import TensorLike
from distopt.engine.step import StepEngine
from distopt.optimizers.moving_average import average_config
from distopt.optimizers.variable_factors import Factors

if TYPE_CHECKING:
    from distopt.optimizers.base_optimizer import BaseOptimizer
    from distopt.optimizers.optimizer import ApplyState

__all__ = ["pipeline_text", "settings_text", "stages_of", "stages_text", "tell_pipeline"]


def pipeline_text(optimizer: BaseOptimizer) -> str:
    """The stages of a step, and with several replicas a line on how the engine runs them."""
    context = distribute.get_replica_context()
    replicas = (context or distribute.get_strategy()).num_replicas_in_sync
    stages = stages_of(optimizer, replicas)
    if context is None or replicas == 1:
        return stages
    return f"{stages}\n{StepEngine.describe(context, optimizer, _wire(optimizer.gradient_aggregator))}"


def stages_of(optimizer: BaseOptimizer, replicas: int) -> str:
    """The stages of a step with this many replicas, joined by arrows: aggregation, transformation, update."""
    clips = optimizer._clip or ""
    over = f"{_name(optimizer.gradient_aggregator)} over {replicas} replica{'s' if replicas > 1 else ''}"
    config = {key: value for key, value in optimizer.get_config().items() if key not in _SHOWN_APART}
    update = f"{optimizer._title()}({', '.join(f'{k}={_value(v)}' for k, v in config.items())})"
    if optimizer.weight_decay and (undecayed := optimizer._factors.undecayed.names()):
        update += f", no decay of {', '.join(undecayed)}"
    if unadapted := optimizer._factors.unadapted.names():
        update += f", no trust ratio of {', '.join(unadapted)}"
    transformers = [_name(transformer) for transformer in optimizer.gradient_transformers]
    return " -> ".join(part for part in (_policy(optimizer), over, str(clips), *transformers, update) if part)


def tell_pipeline(optimizer: BaseOptimizer) -> bool:
    """Sends the pipeline to distoptrun if it asked for telemetry.

    Returns True, to store that this is done.
    """
    context = distribute.get_replica_context()
    if context is not None and distribute.telemetry_of(context).wanted:
        distribute.tell(context, "pipeline", text=pipeline_text(optimizer))
    return True


def stages_text(optimizer: BaseOptimizer) -> str:
    """The stages that differ from the defaults, for the name of a step, which replicas compare.

    Moving averages count as a stage. The text omits what may differ between replicas: configs of aggregators,
    and the ``repr`` of the user's objects.
    """
    aggregator = optimizer.gradient_aggregator
    clips = {name: getattr(optimizer, name) for name in ("clipvalue", "clipnorm", "global_clipnorm")}
    return ", ".join(
        [
            *([policy] if (policy := _policy(optimizer)) else []),
            *([stage] if (stage := _stage(aggregator)) != "sum" else []),
            *(f"{name} {limit!r}" for name, limit in clips.items() if limit is not None),
            *map(_stage, optimizer.gradient_transformers),
            *(f"{name}={value!r}" for name, value in average_config(optimizer._average).items()),
        ]
    )


def settings_text(optimizer: BaseOptimizer, apply_state: ApplyState | None = None) -> str:
    """The hyperparameters and clips with 9 digits, for audits, which compare them over replicas.

    Args:
        optimizer: the optimizer.
        apply_state: the coefficients of a step, to include them.
    """
    clips = {"clipnorm": optimizer.clipnorm, "clipvalue": optimizer.clipvalue}
    settings = {**optimizer._hypers.values, **clips, "global_clipnorm": optimizer.global_clipnorm}
    for number, ((place, _), coefficients) in enumerate((apply_state or {}).items()):
        own = f" x {place}" if isinstance(place, Factors) else f" of kind {number}" if number else ""
        settings.update(
            {f"{k}{own}": v for k, v in coefficients.items() if isinstance(v, _NUMBERS) and not np.ndim(v)}
        )
    return ", ".join(f"{name}={_exact(value)}" for name, value in sorted(settings.items()))


def _policy(optimizer: BaseOptimizer) -> str:
    """The policy for gradients that are not finite; empty if it is the default."""
    policy = optimizer.on_nonfinite
    return "" if policy == "propagate" else f"{policy} nonfinite"


def _exact(value: Any) -> str:
    if isinstance(value, _NUMBERS):
        return f"{float(value):.9g}"
    return "None" if value is None else type(value).__name__


def _stage(function: Any) -> str:
    if isinstance(function, aggregators.Chain):
        return " -> ".join(map(_stage, function.parts))
    name = aggregators.label(function)
    wire = _wire(function)
    own = name.rpartition(".")[2].lower() if name.startswith("distopt.") else name
    return own if wire == EXACT else f"{own} by {wire}"


def _wire(aggregator: Any) -> str:
    """The wire format: that of float32 gradients between nodes."""
    return aggregator.wire if isinstance(aggregator, aggregators.WireAggregator) else EXACT


_NUMBERS = (TensorLike, int, float, np.generic)
_SHOWN_APART = ("name", "on_nonfinite", "clipnorm", "clipvalue", "global_clipnorm")


def _name(function: Any) -> str:
    return getattr(function, "__name__", None) or str(function)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("class_name", value))
    return str(value) if isinstance(value, (bool, str)) or value is None else f"{float(value):g}"
