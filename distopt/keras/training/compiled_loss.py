"""The loss of a compiled model: exact however a batch is shared out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distopt.core.nest import flatten
from distopt.core.numbers import as_scalar
from distopt.core.tensor import as_array
from distopt.distribute import get_replica_context
from distopt.keras import losses
from distopt.keras.layers.logits import logits_behind
from distopt.keras.training.outputs import part_of_each, per_output
from distopt.keras.values import as_floats

__all__ = ["CompiledLoss"]


class CompiledLoss:
    """The losses of a model's outputs, weighted and added up.

    Called with one replica's share of a batch, it returns this share's part of the loss of the whole
    batch: the parts of all replicas add up to ``sum of losses / number of losses``, however uneven the
    shares are. A loss with reduction SUM or NONE is not divided.

    Args:
        spec: a loss (name, function or object) for all outputs, or a list or dict of one for each; None if
            the model adds its losses itself.
        weights: a list or dict of numbers likewise, or None.

    Raises:
        ValueError: a name is unknown.
        TypeError: a weight that is no number.
    """

    def __init__(self, spec: Any, weights: Any = None) -> None:
        self.given = spec is not None
        self._spec = _map_spec(losses.for_model, spec) if self.given else None
        given = 1.0 if weights is None else weights
        self._weights = _map_spec(lambda weight: as_scalar(weight, "each of loss_weights"), given)
        self._outputs: list[tuple[str, _OutputLoss, float]] | None = None
        self._examples: tuple[int, int] | None = None
        self.reset()

    def reset(self) -> None:
        """Resets what :meth:`sums` returns."""
        self._sums: dict[str, float] = {}
        self._count = 0
        self._local = 0

    @property
    def used(self) -> bool:
        """Whether there is a loss to report."""
        return self.given or bool(self._sums)

    def share_is(self, local: int, size: int) -> None:
        """Says how many of the next batch's ``size`` examples are here."""
        self._examples = (local, size)

    def __call__(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, regularization_losses: Sequence[Any] = ()
    ) -> Any:
        """This replica's part of the loss, a scalar.

        Args:
            y_true: labels, nested as the outputs are.
            y_pred: the model's outputs.
            sample_weight: ``[local]`` or the shape of the losses; a list or dict for several outputs.
            regularization_losses: scalars to add: penalties on weights, and means over this share.
        """
        predictions = flatten(y_pred)
        local, size = self._examples or (len(predictions[0]),) * 2
        total = self._of_outputs(predictions, y_true, y_pred, sample_weight, local, size)
        for penalty in (as_floats(one, "what add_loss() added") for one in regularization_losses):
            dtype = penalty.dtype if total is None else total.dtype
            part = penalty * dtype.type(local / size)
            total = part if total is None else total + part
        # A mean over no examples is NaN, and no part of the loss.
        self._add("loss", total if local else 0, size)
        self._count += size
        self._local += local
        return total

    def _of_outputs(
        self, predictions: list[Any], y_true: Any, y_pred: Any, sample_weight: Any, local: int, size: int
    ) -> Any:
        """The sum of the outputs' losses, None without any."""
        total: Any = None
        if not self.given:
            return total
        outputs = self._outputs or self._resolve(y_pred)
        labels = part_of_each(y_true, y_pred, "y")
        weights = part_of_each(sample_weight, y_pred, "sample_weight")
        for (name, loss, weight), label, prediction, sample in zip(
            outputs, labels, predictions, weights, strict=True
        ):
            part = loss.part(label, prediction, sample, local, size)
            if len(outputs) > 1:
                self._add(f"{name}_loss", part, size)
            part = part if weight == 1 else part * weight
            total = part if total is None else total + part
        return total

    def _add(self, name: str, part: Any, size: int) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + float(part) * size

    def sums(self) -> tuple[dict[str, float], int]:
        """This replica's part of (loss times batch size) of all batches by name, and the examples on all."""
        return dict(self._sums) or {"loss": 0.0}, self._count

    def results(self) -> dict[str, float]:
        """The means over all batches and replicas by name, the loss first: a collective call."""
        sums, count = self.sums()
        values = np.array(list(sums.values()), np.float64)
        context = get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            values = as_array(context.all_reduce("sum", values))
        found = {name: float(value) / max(count, 1) for name, value in zip(sums, values, strict=True)}
        return {"loss": found.pop("loss"), **found}

    @property
    def names(self) -> list[str]:
        """Those of :meth:`results`."""
        return ["loss", *self._names()[:-1]]

    @property
    def totals(self) -> list[float]:
        """The sums of this replica, first of examples, then of the outputs' losses and of the loss."""
        return [float(self._local), *(self._sums.get(name, 0.0) for name in self._names())]

    def go_on_from(self, totals: Sequence[float], count: int) -> None:
        """Takes :attr:`totals` of an earlier run, and the examples on all replicas then."""
        self._local, self._count = int(totals[0]), count
        self._sums = dict(zip(self._names(), map(float, totals[1:]), strict=True)) if count else {}

    def _names(self) -> list[str]:
        outputs = self._outputs or []
        return [*(f"{name}_loss" for name, _, _ in outputs if len(outputs) > 1), "loss"]

    def local_mean(self) -> float:
        """The mean loss of this replica's examples."""
        return self._sums.get("loss", 0.0) / max(self._local, 1)

    @property
    def loss_objects(self) -> list[losses.Loss]:
        """The losses of the outputs, in order; empty before the first outputs are seen."""
        return [loss.loss for _, loss, _ in self._outputs or []]

    def resolve(self, y_pred: Any) -> None:
        """Finds the loss of each output for outputs like these."""
        if self._outputs is None and self.given:
            self._resolve(y_pred)

    def _resolve(self, y_pred: Any) -> list[tuple[str, _OutputLoss, float]]:
        found = per_output(self._spec, y_pred, "loss")
        weights = per_output(self._weights, y_pred, "loss_weights", 1.0)
        self._outputs = [
            (name, _OutputLoss(loss), float(weight))
            for (name, loss), (_, weight) in zip(found, weights, strict=True)
        ]
        return self._outputs


class _OutputLoss:
    """One output's loss, from the logits behind it if they are known."""

    def __init__(self, loss: losses.Loss) -> None:
        self.loss = loss
        self._divide = loss.reduction not in (losses.Reduction.SUM, losses.Reduction.NONE)
        self._behind = [
            (activation, of_logits)
            for activation in ("softmax", "sigmoid")
            if (of_logits := losses.behind_activation(loss, activation)) is not None
        ]

    def part(self, y_true: Any, y_pred: Any, sample_weight: Any, local: int, size: int) -> Any:
        if local == 0:
            # A user's mean over no examples would be NaN; the graph must stay whole all the same.
            return np.sum(y_pred) * y_pred.dtype.type(0)
        loss = self.loss
        for activation, of_logits in self._behind:
            logits = logits_behind(y_pred, activation)
            if logits is not None:
                loss, y_pred = of_logits, logits
                break
        if self._divide:
            return loss.mean(y_true, y_pred, sample_weight, local / size)
        return loss.sum_and_count(y_true, y_pred, sample_weight)[0]


def _map_spec(make: Any, spec: Any) -> Any:
    if isinstance(spec, dict) and "class_name" not in spec:
        return {key: make(value) for key, value in spec.items()}
    if isinstance(spec, (list, tuple)):
        return [make(value) for value in spec]
    return make(spec)
