"""The metrics of a compiled model."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from distopt.core.nest import flatten, map_structure
from distopt.core.tensor import as_array
from distopt.keras import metrics
from distopt.keras.training.metric_names import with_names
from distopt.keras.training.outputs import part_of_each, per_output

__all__ = ["CompiledMetrics"]


class CompiledMetrics:
    """Metrics of each output, made when the first outputs and labels are seen.

    Args:
        spec: None, a list of metrics (names, functions, objects) for all outputs, or a list or dict
            with one such list for each.
        weighted: the same, for metrics that take the sample weights into account.

    Raises:
        ValueError: a name is unknown.
    """

    def __init__(self, spec: Any = None, weighted: Any = None) -> None:
        self._specs = ((spec, False), (weighted, True))
        #: Whether there are any.
        self.given = any(one is not None for one in flatten([spec, weighted]))
        self._outputs: list[list[tuple[Any, bool]]] | None = None
        for part, _ in self._specs:
            map_structure(_check_name, part)

    @property
    def metrics(self) -> list[Any]:
        """The metric objects, in order; empty before the first outputs are seen."""
        return [metric for output in self._outputs or [] for metric, _ in output]

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes one replica's share of a batch in; an empty share is left out.

        Args:
            y_true: labels, nested as the outputs are.
            y_pred: the model's outputs.
            sample_weight: ``[local]``, for the weighted metrics; a list or dict for several outputs.

        Raises:
            ValueError: there are no labels.
        """
        if y_true is None and self.given:
            raise ValueError("there were no labels (y), which the metrics of compile() need")
        if self._outputs is None:
            self.resolve(y_true, y_pred)
        assert self._outputs is not None
        if not any(self._outputs):
            return
        predictions = [as_array(value) for value in flatten(y_pred)]
        labels = [as_array(value) for value in part_of_each(y_true, y_pred, "y")]
        weights = part_of_each(sample_weight, y_pred, "sample_weight")
        if len(predictions[0]) == 0:
            return
        for output, label, prediction, weight in zip(
            self._outputs, labels, predictions, weights, strict=True
        ):
            for metric, weighted in output:
                metric.update_state(label, prediction, weight if weighted else None)

    def resolve(self, y_true: Any, y_pred: Any, taken: Collection[str] = ()) -> None:
        """Makes the metric objects for labels and outputs like these.

        Args:
            y_true: labels, nested as the outputs are.
            y_pred: the model's outputs.
            taken: names of other results.

        Raises:
            ValueError: two metrics of one name.
        """
        if self._outputs is not None:
            return
        predictions, labels = flatten(y_pred), part_of_each(y_true, y_pred, "y")
        outputs: list[list[tuple[Any, bool]]] = [[] for _ in predictions]
        prefixes = [""] * len(predictions)
        for spec, weighted in self._specs:
            for i, (name, part) in enumerate(_per_output(spec, y_pred)):
                prefixes[i] = f"{name}_" if len(predictions) > 1 else ""
                for item in part:
                    metric = metrics.for_model(item, labels[i].shape, predictions[i].shape)
                    outputs[i].append((metric, weighted))
        self._outputs = with_names(outputs, prefixes, taken)

    def reset_state(self) -> None:
        """Forgets all batches."""
        for metric in self.metrics:
            metric.reset_state()


def _per_output(spec: Any, y_pred: Any) -> list[tuple[str, list[Any]]]:
    if spec is None:
        return []
    nested = isinstance(spec, dict) or (
        isinstance(spec, (list, tuple)) and any(isinstance(s, (list, tuple)) for s in spec)
    )
    if not nested:
        everywhere = list(spec) if isinstance(spec, (list, tuple)) else [spec]
        return [(name, everywhere) for name, _ in per_output(None, y_pred, "metrics")]
    return [
        (name, list(part) if isinstance(part, (list, tuple)) else [part])
        for name, part in per_output(spec, y_pred, "metrics", [])
    ]


def _check_name(item: Any) -> None:
    if isinstance(item, str):
        metrics.for_model(item, (1, 1), (1, 1))
