"""BackupAndRestore: a fit that can be ended at any moment and goes on where it was."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from distopt.checkpoint import CheckpointManager
from distopt.core.checks import as_count, as_frequency, as_path
from distopt.errors import ReplicaFailed
from distopt.keras.callbacks.callback import Callback, Logs, is_chief

__all__ = ["BackupAndRestore"]

_log = logging.getLogger("distopt")


class BackupAndRestore(Callback):
    """Saves the whole state of ``fit``, and resumes from it when the program starts again.

    The state includes weights, optimizer, random streams, the position in the data, the loss and metrics of
    the epoch so far, and the state of callbacks. The result has the same bits as without the interruption.
    Backups are written by a :class:`~distopt.checkpoint.CheckpointManager`.

    If a backup cannot be written, a warning is shown. Training continues, and older backups are kept.

    When an interrupted epoch continues, ``on_epoch_begin`` is called again for it. An iterable is read again
    up to the position of the backup.

    Args:
        backup_dir: the directory, which all replicas must see. Only one ``fit`` at a time may use it.
        save_freq: "epoch", or the number of batches between backups.
        delete_checkpoint: whether to remove the backups when training is complete. Otherwise the final
            weights are saved too, and running the program again does not train again.
        save_before_preemption: whether SIGTERM saves a backup at the end of the step and ends the program
            with exit code 143. ``fit`` must run in the main thread.
        background: whether to write backups while training continues.
        keep: the number of backups to keep.

    Raises:
        ValueError: ``save_freq`` is invalid, or ``keep`` is below 1.
        RuntimeError: in training, if another job writes to the directory.
        MissingExtra: in training, if safetensors is not installed.
    """

    local_batches = True
    runs_last = True

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: Any = "epoch",
        delete_checkpoint: bool = True,
        save_before_preemption: bool = True,
        *,
        background: bool = False,
        keep: int = 2,
    ) -> None:
        super().__init__()
        self.backup_dir = as_path(backup_dir, "backup_dir")
        self.save_freq = as_frequency(save_freq, "save_freq")
        self.delete_checkpoint = delete_checkpoint
        self.save_before_preemption = save_before_preemption
        self.background, self.keep = background, as_count(keep, "keep")
        self._manager: CheckpointManager | None = None
        self._batches = 0  # since the last backup

    @property
    def manager(self) -> CheckpointManager:
        """The checkpoint manager, during training.

        Raises:
            RuntimeError: not called during training.
        """
        if self._manager is None:
            raise RuntimeError("BackupAndRestore has no manager before fit() begins")
        return self._manager

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """See Callback."""
        model, state = self.model, self.model.fit_state
        assert state is not None
        objects = {"metrics": state.metrics, "loss": state.loss}
        self._manager = CheckpointManager(
            self.backup_dir,
            keep=self.keep,
            model=model,
            position=state.position,
            callbacks=state.callbacks,
            fit=state,
            **{name: value for name, value in objects.items() if value},
        )
        self._batches = 0
        self._manager.lock()  # now, not when hours have been trained
        if self.save_before_preemption:
            try:
                self._manager.on_preemption()
            except ValueError as error:
                if is_chief():
                    _log.warning(
                        "fit will not notice a preemption, because it does not run in the main thread: %s",
                        error,
                    )
        if self._manager.restore() and is_chief():
            position = state.position
            _log.warning("continuing at epoch %d, batch %d", position.epoch + 1, position.batch + 1)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        self._batches += 1
        # Gradients that wait for further batches are no state of any number of replicas.
        if not self.model.compiled.pending:
            self._save_if(self.save_freq != "epoch" and self._batches >= self.save_freq)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        self._save_if(self.save_freq == "epoch")

    def on_train_end(self, logs: Logs | None = None) -> None:
        """See Callback."""
        if self.delete_checkpoint:
            self._try(self.manager.clear)
            return
        self._save_if(self._batches > 0)
        self._try(self.manager.wait)

    def close(self) -> None:
        """See Callback."""
        if self._manager is not None:
            self._manager.release_preemption()
            self._manager.unlock()

    def _save_if(self, due: bool) -> None:
        if due:
            self._try(lambda: self.manager.save(self.background))
            self._batches = 0
        if self.save_before_preemption:
            self.manager.step()

    def _try(self, call: Callable[[], object]) -> None:
        """A full disk is no reason to end a training: it is reported, and the next backup may succeed."""
        try:
            call()
        except OSError as error:
            _log.warning("%s", error)
        except ReplicaFailed:
            pass  # reported there, or the end of the job
