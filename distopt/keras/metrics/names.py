"""Metrics by name and config, and as models use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distopt.core.checks import shown
from distopt.core.custom_objects import deserialize_object, serialize_object
from distopt.keras import losses
from distopt.keras.metrics import accuracies, auc, errors, mean, precision_recall
from distopt.keras.metrics.mean import MeanMetricWrapper
from distopt.keras.metrics.metric import Metric

__all__ = ["deserialize", "for_model", "get", "serialize"]

_CLASSES: tuple[type[Metric], ...] = tuple(
    getattr(module, name)
    for module in (accuracies, auc, errors, mean, precision_recall)
    for name in module.__all__
    if name[0].isupper()
)

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(accuracies, name) for name in accuracies.__all__ if name.islower()
} | {
    name: getattr(losses, name)
    for name in (
        *("BCE", "KLD", "MAE", "MAPE", "MSE", "MSLE", "bce", "binary_crossentropy"),
        *("categorical_crossentropy", "categorical_hinge", "hinge", "huber", "kl_divergence", "kld"),
        *("kullback_leibler_divergence", "log_cosh", "logcosh", "mae", "mape", "mean_absolute_error"),
        *("mean_absolute_percentage_error", "mean_squared_error", "mean_squared_logarithmic_error", "mse"),
        *("msle", "poisson", "sparse_categorical_crossentropy", "squared_hinge"),
    )
}

_KNOWN: dict[str, Any] = {cls.__name__: cls for cls in _CLASSES} | _FUNCTIONS
_KNOWN |= {"cosine_proximity": errors._cosine, "cosine_similarity": errors._cosine}

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
    """``{"class_name": ..., "config": {...}}`` of a metric, the name of a function, None for None."""
    return serialize_object(metric)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The metric that :func:`serialize` made ``config`` of.

    Raises:
        ValueError: unknown, or malformed.
    """
    return deserialize_object(config, _KNOWN, "metric function", custom_objects)


def get(identifier: Any) -> Any:
    """A metric from a name, a config, a callable, or None.

    Raises:
        ValueError: ``identifier`` is none of these, or unknown.
    """
    if identifier is None:
        return None
    if isinstance(identifier, (str, Mapping)):
        return deserialize(identifier)
    if callable(identifier):
        return identifier
    raise ValueError(f"Could not interpret metric function identifier: {shown(identifier)}")


def for_model(identifier: Any, y_true_shape: Sequence[int], y_pred_shape: Sequence[int]) -> Metric:
    """A metric object from what ``compile(metrics=[...])`` takes.

    Args:
        identifier: what :func:`get` takes, or "accuracy" ("acc") or "crossentropy" ("ce"), which mean the
            binary, sparse or categorical kind: binary where predictions have one element, sparse where
            labels have an axis less or a last axis of length 1. Functions are averaged; a name given
            becomes the metric's name.
        y_true_shape: a batch of labels' shape.
        y_pred_shape: a batch of predictions' shape.

    Raises:
        ValueError: unknown.
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
        raise ValueError("None is no metric: leave it out of compile(metrics=[...])")
    name = identifier if isinstance(identifier, str) else getattr(metric, "__name__", type(metric).__name__)
    return MeanMetricWrapper(metric, name=name)
