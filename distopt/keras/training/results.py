"""The results of an epoch or an evaluation: the loss, the metrics of ``compile`` and the model's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core.tensor import as_array
from distopt.distribute import get_replica_context
from distopt.keras import metrics
from distopt.keras.layers.layer import Layer
from distopt.keras.metrics import Metric
from distopt.keras.training.loss_metric import LossMetric

if TYPE_CHECKING:
    from distopt.keras.model import Model

__all__ = ["tracked_metrics", "listed", "metrics_of", "names", "reset", "results"]


def tracked_metrics(layer: Layer) -> list[Metric]:
    """The metrics in the attributes of a layer or model, then those in its sublayers'."""
    tracked = layer.tracked_attributes()
    found = list(tracked.metrics)
    for sublayer in tracked.layers:
        found += tracked_metrics(sublayer)
    return found


def metrics_of(model: Model) -> list[Any]:
    """Those of ``compile``, then what else there is in ``model.metrics``, but for the losses."""
    return [*model.compiled.metrics.metrics, *_own(model)]


def _own(model: Model) -> list[Any]:
    # Every step of train_on_batch asks: what compile() made need not be gathered to be left out again.
    every = model.metrics if model.lists_own_metrics else tracked_metrics(model)
    found = [metric for metric in dict.fromkeys(every) if not isinstance(metric, LossMetric)]
    compiled = model.compiled.metrics.metrics if found else []
    return [metric for metric in found if metric not in compiled]


def reset(model: Model) -> None:
    """Resets what :func:`results` returns."""
    model.compiled.reset()
    for metric in _own(model):
        # What is no Metric may know the older name only.
        (metric.reset_state if hasattr(metric, "reset_state") else metric.reset_states)()


def results(model: Model, returned: dict[str, Any] | None = None) -> dict[str, Any]:
    """The results over all batches and replicas, by name; to be called on all of them.

    Args:
        model: a compiled model.
        returned: what a custom step returned last, if it returns the results: those of replica 0 count.

    Raises:
        ValueError: two of the losses and metrics have one name.
    """
    compiled = model.compiled
    if returned is not None:
        found = _plain(returned)
    else:
        found = compiled.loss.results() if compiled.loss.used else {}
        counted = [metric for metric in metrics_of(model) if isinstance(metric, Metric)]
        for metric, value in zip(counted, metrics.results(counted), strict=True):
            if metric.name in found:
                raise ValueError(
                    f"found two metrics with the name {metric.name!r} in model {model.name!r}: results are "
                    "listed by name, so give one of them another name"
                )
            found[metric.name] = _number(value)
    compiled.result_names = list(found)
    return found


def names(model: Model) -> list[str]:
    """The names of the last results, or of those to come, in the order of :func:`listed`."""
    known = list(dict.fromkeys(metric.name for metric in model.metrics))
    last = model.compiled.result_names
    if last is None:
        return known
    return [name for name in known if name in last] + sorted(name for name in last if name not in known)


def listed(model: Model, found: dict[str, Any]) -> Any:
    """Results as a list in the order of ``model.metrics``, then the others by name; a single one alone."""
    values = [found[name] for name in names(model)]
    return values[0] if len(values) == 1 else values


def _plain(logs: dict[str, Any]) -> dict[str, Any]:
    """Values that a user's step returned, as Python numbers; replica 0's on all."""
    context = get_replica_context()
    values = {name: np.asarray(value, np.float64) for name, value in logs.items()}
    if context is not None and context.num_replicas_in_sync > 1:
        values = context.broadcast(values)
    return {name: as_array(value).item() for name, value in values.items()}


def _number(value: Any) -> Any:
    array = as_array(value)
    return array.item() if array.size == 1 else array
