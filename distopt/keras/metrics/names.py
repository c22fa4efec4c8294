"""Metrics by name and config, and as models use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distopt.core.registry import Registry, public_classes, public_functions, serialize_object
from distopt.keras import losses
from distopt.keras.losses import margin, probabilistic, regression
from distopt.keras.metrics import accuracies, auc, errors, mean, precision_recall
from distopt.keras.metrics.mean import MeanMetricWrapper
from distopt.keras.metrics.metric import Metric

__all__ = ["deserialize", "for_model", "get", "registry", "serialize"]

#: Classes and functions of metrics by name. They include the functions of losses, except for the cosine: as
#: a metric its sign is the opposite.
registry = Registry(
    "metric function",
    {
        **public_classes(accuracies, auc, errors, mean, precision_recall),
        **public_functions(margin, probabilistic, regression, accuracies, errors),
        "cosine_proximity": errors.cosine_similarity,
    },
)

#: What "accuracy" and "crossentropy" mean for binary, sparse and one-hot labels.
_BY_SHAPE: dict[str, tuple[Callable[..., Any], ...]] = {
    "accuracy": (
        accuracies.binary_accuracy,
        accuracies.sparse_categorical_accuracy,
        accuracies.categorical_accuracy,
    ),
    "crossentropy": (
        losses.binary_crossentropy,
        losses.sparse_categorical_crossentropy,
        losses.categorical_crossentropy,
    ),
}
_BY_SHAPE |= {"acc": _BY_SHAPE["accuracy"], "ce": _BY_SHAPE["crossentropy"]}


def serialize(metric: Any) -> Any:
    """Returns the config of a metric, the name of a function, or None for None."""
    return serialize_object(metric)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Returns the metric of a config that :func:`serialize` returned.

    Raises:
        ValueError: the config is malformed, or its class is unknown.
    """
    return registry.deserialize(config, custom_objects)


def get(identifier: Any) -> Any:
    """Returns a metric from a name, a config, a callable, or None.

    Raises:
        ValueError: ``identifier`` is none of these, or unknown.
    """
    return registry.get(identifier)


def for_model(identifier: Any, y_true_shape: Sequence[int], y_pred_shape: Sequence[int]) -> Metric:
    """Returns a metric object from an argument of ``compile(metrics=[...])``.

    Args:
        identifier: anything that :func:`get` accepts, or "accuracy" ("acc") or "crossentropy" ("ce"). The
            last two select the binary kind if predictions have one element, the sparse kind if labels have
            one axis less or a last axis of length 1, and otherwise the categorical kind. Functions are
            averaged. A name becomes the name of the metric.
        y_true_shape: the shape of a batch of labels.
        y_pred_shape: the shape of a batch of predictions.

    Raises:
        ValueError: the name is unknown.
    """
    if isinstance(identifier, str) and identifier in _BY_SHAPE:
        binary, sparse, categorical = _BY_SHAPE[identifier]
        if y_pred_shape[-1] == 1:
            chosen = binary
        elif len(y_true_shape) < len(y_pred_shape) or y_true_shape[-1] == 1:
            chosen = sparse
        else:
            chosen = categorical
        return MeanMetricWrapper(chosen, name=identifier)
    metric = get(identifier)
    if isinstance(metric, type) and issubclass(metric, (Metric, losses.Loss)):
        metric = metric()
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, losses.Loss):
        return MeanMetricWrapper(metric.call, name=metric.name)
    if metric is None:
        raise ValueError("None is not a metric: remove it from compile(metrics=[...])")
    name = identifier if isinstance(identifier, str) else getattr(metric, "__name__", type(metric).__name__)
    return MeanMetricWrapper(metric, name=name)
