"""Where a fit stands, beside weights, optimizer and metrics: what it needs to go on from there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core import Variable, VariableSynchronization
from distopt.core.checks import as_count
from distopt.keras.callbacks.callback import Callback
from distopt.keras.data import Source
from distopt.keras.metrics import Metric
from distopt.keras.training.compiled_loss import CompiledLoss
from distopt.keras.training.results import metrics_of

if TYPE_CHECKING:
    from distopt.keras.model import Model

__all__ = ["CallbackStates", "FitState", "LossTotals", "Position"]


class Position:
    """Where all replicas are in the data.

    Attributes:
        epoch: the number of the epoch.
        batch: the number of its next batch.
        restored: whether they are those of an earlier run.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch, self.batch = epoch, 0
        self.restored = False

    def get_state(self) -> dict[str, int]:
        """For checkpoints."""
        return {"epoch": self.epoch, "batch": self.batch}

    def check_state(self, state: Any) -> None:
        """For checkpoints."""
        _check_counts(state, ("epoch", "batch"))

    def set_state(self, state: dict[str, int]) -> None:
        """Restores a state of :meth:`get_state`."""
        self.epoch, self.batch = state["epoch"], state["batch"]
        self.restored = True


class LossTotals:
    """The loss of an epoch so far, as a sum over replicas: so it is right at any number of them.

    Args:
        loss: the model's.
    """

    def __init__(self, loss: CompiledLoss) -> None:
        self._loss = loss
        self._variable: Variable | None = None

    @property
    def weights(self) -> list[Variable]:
        """This replica's part, as it is now."""
        totals = np.array(self._loss.totals)
        if self._variable is None or self._variable.shape != totals.shape:
            part = VariableSynchronization.ON_READ
            self._variable = Variable(totals, trainable=False, name="totals", synchronization=part)
        self._variable.assign(totals)
        return [self._variable]

    def get_state(self) -> dict[str, int]:
        """The examples on all replicas, for checkpoints."""
        return {"count": self._loss.sums()[1]}

    def check_state(self, state: Any) -> None:
        """For checkpoints."""
        _check_counts(state, ("count",))

    def set_state(self, state: dict[str, int]) -> None:
        """Takes them back, with what :attr:`weights` holds by then."""
        assert self._variable is not None
        self._loss.go_on_from(self._variable.numpy().tolist(), state["count"])


class CallbackStates:
    """The states of the callbacks that have one: ``get_state()`` and ``set_state(state)``.

    What was restored is handed out later, since a beginning makes many callbacks forget.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._stateful: dict[str, Any] = {}
        for callback in callbacks:
            if hasattr(callback, "get_state") and hasattr(callback, "set_state"):
                kind = type(callback).__name__
                count = sum(name.startswith(f"{kind}/") for name in self._stateful)
                self._stateful[f"{kind}/{count}"] = callback
        self._restored: dict[str, Any] = {}

    def get_state(self) -> dict[str, Any]:
        """For checkpoints."""
        return {name: callback.get_state() for name, callback in self._stateful.items()}

    def check_state(self, state: Any) -> None:
        """For checkpoints."""
        if not isinstance(state, dict):
            raise TypeError(f"expected a dict, got {type(state).__name__}")
        for name, callback in self._stateful.items():
            if name in state and hasattr(callback, "check_state"):
                callback.check_state(state[name])

    def set_state(self, state: dict[str, Any]) -> None:
        """Keeps what :meth:`get_state` returned, for :meth:`hand_out`."""
        self._restored = state

    def hand_out(self) -> None:
        """Gives the callbacks what was restored; those that were not there then keep what they have."""
        for name, state in self._restored.items():
            if name in self._stateful:
                self._stateful[name].set_state(state)
        self._restored = {}


class FitState:
    """One fit. Its own state is what may differ between replicas, such as where their data are.

    Args:
        model: a compiled model.
        sources: the data of training and of validation, if there are any.
        callbacks: all of them.
        epoch: the number of the first epoch.
        validates: whether an epoch of that number ends with a validation; None if none does.

    Attributes:
        position: the same on all replicas.
        callbacks: their states.
        loss: the loss of the epoch so far.
        returned: what a custom ``train_step`` returned last.
    """

    def __init__(
        self,
        model: Model,
        sources: Sequence[Source],
        callbacks: Sequence[Callback],
        epoch: int,
        validates: Callable[[int], bool] | None = None,
    ) -> None:
        self._model, self._sources = model, sources
        self.position = Position(epoch)
        self.callbacks = CallbackStates(callbacks)
        self.loss = LossTotals(model.compiled.loss)
        self.returned: dict[str, Any] | None = None
        self._validates = validates

    @property
    def metrics(self) -> list[Metric]:
        """The metrics of the epoch so far, with sums of their own."""
        return [metric for metric in metrics_of(self._model) if isinstance(metric, Metric)]

    def validates(self, epoch: int) -> bool:
        """Whether an epoch of that number ends with a validation."""
        return self._validates is not None and self._validates(epoch)

    @property
    def awaits_validation(self) -> bool:
        """Whether the epoch that has just ended had no validation, as others of this fit have."""
        return self._validates is not None and not self._validates(self.position.epoch - 1)

    def get_state(self) -> dict[str, Any]:
        """For checkpoints."""
        returned = self.returned
        return {
            "stopped": self._model.stop_training,
            "returned": returned and {name: float(np.asarray(v)) for name, v in returned.items()},
            "data": [source.get_state() for source in self._sources],
        }

    def check_state(self, state: Any) -> None:
        """For checkpoints."""
        returned, data = state["returned"], state["data"]
        if not isinstance(state["stopped"], (bool, np.bool_)) or not isinstance(data, list):
            raise TypeError("whether training was stopped, or the positions in the data, are none")
        if returned is not None and not (
            isinstance(returned, dict) and all(isinstance(v, float) for v in returned.values())
        ):
            raise TypeError("train_step did not return a dict of numbers")
        for source, own in zip(self._sources, data, strict=True):
            source.check_state(own)

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores a state of :meth:`get_state`."""
        self._model.stop_training, self.returned = state["stopped"], state["returned"]
        for source, own in zip(self._sources, state["data"], strict=True):
            source.set_state(own)


def _check_counts(state: Any, names: Sequence[str]) -> None:
    if not isinstance(state, dict):
        raise TypeError(f"expected a dict, got {type(state).__name__}")
    for name in names:
        as_count(state[name], name, least=0)
