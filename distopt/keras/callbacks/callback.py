"""Callback: hooks at the beginnings and ends of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from distopt.core.checks import shown
from distopt.core.keywords import KnownArguments
from distopt.distribute import get_replica_context

if TYPE_CHECKING:
    from distopt.keras.model import Model

__all__ = ["Callback", "CallbackList", "Logs", "is_chief"]

#: Name -> value, alike on all replicas at the end of an epoch.
Logs = dict[str, Any]


def is_chief() -> bool:
    """Whether this is replica 0, the one that prints and writes files."""
    context = get_replica_context()
    return context is None or context.replica_id_in_sync_group == 0


class Callback(KnownArguments):
    """Base class of callbacks. Override the methods that you need. All replicas call them.

    Attributes:
        model: the model in training.
        params: a dict with ``epochs``, ``steps`` and ``samples`` of an epoch (None if unknown),
            ``batch_size`` and ``replicas``.
        local_batches: True if ``on_train_batch_end`` needs only the loss of this replica. Otherwise the logs
            of every batch are first combined over all replicas, and if the callback sets
            ``model.stop_training`` on one replica, all replicas stop after this batch.
        runs_last: True if its methods must be called after those of the other callbacks.

    To restore the state of a callback after a restart, add ``get_state()`` and ``set_state(state)``. The
    state consists of plain values. See ``BackupAndRestore``.
    """

    local_batches = False
    runs_last = False

    def __init__(self) -> None:
        self.model: Model = None  # type: ignore[assignment]
        self.params: dict[str, Any] = {}

    def set_model(self, model: Model) -> None:
        """Sets the model in training."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Sets the parameters of the training."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Called before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called after the last epoch."""

    def close(self) -> None:
        """Called at the very end, also if training fails. Releases files and other resources."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Called before an epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Called after an epoch and its validation.

        ``logs`` has the loss and the metrics; those of validation start with ``val_``.
        """

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a batch."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a batch.

        ``logs`` has the means since the start of the epoch, and the global batch ``size``.
        """


class CallbackList:
    """Calls several callbacks in order.

    Args:
        callbacks: the callbacks, in order.
        model: the model in training.
        params: see :class:`Callback`.

    Raises:
        TypeError: an object is not a callback.
    """

    def __init__(self, callbacks: Sequence[Callback], model: Model, params: dict[str, Any]) -> None:
        self._callbacks = sorted(callbacks, key=lambda callback: getattr(callback, "runs_last", False))
        for callback in self._callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks must be Callback objects; got {shown(callback)}")
            callback.set_model(model)
            callback.set_params(params)
        # Most callbacks do not look at batches, of which there are many.
        self._at_begin = [c for c in self._callbacks if _overrides(c, "on_train_batch_begin")]
        self._at_end = [c for c in self._callbacks if _overrides(c, "on_train_batch_end")]

    @property
    def shares_batches(self) -> bool:
        """Whether a callback needs the logs of each batch combined over all replicas."""
        return any(not callback.local_batches for callback in self._at_end)

    def on_train_begin(self) -> None:
        """See Callback."""
        for callback in self._callbacks:
            callback.on_train_begin({})

    def on_train_end(self, logs: Logs) -> None:
        """See Callback."""
        for callback in self._callbacks:
            callback.on_train_end(logs)

    def close(self) -> None:
        """See Callback."""
        for callback in self._callbacks:
            callback.close()

    def on_epoch_begin(self, epoch: int) -> None:
        """See Callback."""
        for callback in self._callbacks:
            callback.on_epoch_begin(epoch, {})

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """See Callback. Entries that a callback adds to ``logs`` are visible to later callbacks."""
        for callback in self._callbacks:
            callback.on_epoch_end(epoch, logs)

    def on_train_batch_begin(self, batch: int) -> None:
        """See Callback."""
        for callback in self._at_begin:
            callback.on_train_batch_begin(batch, {})

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """See Callback."""
        for callback in self._at_end:
            callback.on_train_batch_end(batch, logs)


def _overrides(callback: Callback, method: str) -> bool:
    return getattr(type(callback), method) is not getattr(Callback, method) or method in vars(callback)
