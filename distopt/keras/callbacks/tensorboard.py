"""TensorBoard: the numbers of each epoch in its files."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from distopt.collectives import PHASES
from distopt.core.checks import as_count, as_frequency, as_path
from distopt.distribute import Report, report
from distopt.errors import MissingExtra
from distopt.keras.callbacks.callback import Callback, Logs, is_chief
from distopt.keras.callbacks.event_file import EventFile

__all__ = ["TensorBoard"]


class TensorBoard(Callback):
    """Writes loss and metrics for ``tensorboard --logdir``, on replica 0.

    Values of training go to the folder ``train``, those of validation to ``validation``. The tags are
    ``epoch_loss``, ``epoch_accuracy`` and so on, and with ``update_freq`` also ``batch_loss``.

    It also writes where the time of an epoch went: ``time/own_code``, ``time/waiting`` and so on, as
    fractions averaged over the replicas, and ``steps_per_second``. With several replicas it also writes
    ``late/replica_3``, the fraction of steps to which replica 3 came last. See :func:`distopt.report`.

    Args:
        log_dir: the folder.
        update_freq: "epoch", or the number of batches after which to write values of batches as well.

    Raises:
        MissingExtra: tensorboardX is not installed.
        ValueError: ``update_freq`` has another value.
    """

    local_batches = True

    def __init__(self, log_dir: str | os.PathLike[str] = "logs", update_freq: Any = "epoch") -> None:
        super().__init__()
        # Looked for on all replicas, though only replica 0 imports it: so they raise alike.
        if importlib.util.find_spec("tensorboardX") is None:
            raise MissingExtra.of("the callback TensorBoard", "tensorboardX")
        self.log_dir = as_path(log_dir, "log_dir")
        self.update_freq = as_frequency(update_freq, "update_freq")
        # What is written of batches is what all replicas saw, so all have to gather it.
        self.local_batches = update_freq == "epoch"
        self._files: dict[str, EventFile] = {}
        self._step = 0
        self._before: Report | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """See Callback."""
        self._before = report()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        self._step += 1
        if self.update_freq != "epoch" and self._step % self.update_freq == 0:
            numbers = {name: value for name, value in (logs or {}).items() if name != "size"}
            self._write("train", "batch_", self._step, numbers)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        known = logs or {}
        train = {name: value for name, value in known.items() if not name.startswith("val_")}
        validation = {name[4:]: value for name, value in known.items() if name.startswith("val_")}
        self._write("train", "epoch_", epoch, train)
        self._write("train", "", epoch, self._times())
        self._write("validation", "epoch_", epoch, validation)

    def _times(self) -> Logs:
        """Where the time went since the last epoch."""
        now, before = report(), self._before
        self._before = now
        if now is None or not is_chief():
            return {}
        part = now if before is None else now.since(before)
        shares = part.spent.sum(0) / max(float(part.spent.sum()), 1e-9)
        found: Logs = {f"time/{name.replace(' ', '_')}": shares[i] for i, name in enumerate(PHASES)}
        if part.replicas > 1:
            for replica, last in enumerate(part.last_steps.tolist()):
                found[f"late/replica_{replica}"] = last / max(part.steps, 1)
        return {**found, "steps_per_second": part.steps / max(part.seconds, 1e-9)}

    def get_state(self) -> int:
        """Returns the state for backups."""
        return self._step

    def check_state(self, state: Any) -> None:
        """Raises an error if :meth:`set_state` would not accept this state."""
        as_count(state, "the number of batches", least=0)

    def set_state(self, state: int) -> None:
        """Restores a state of :meth:`get_state`."""
        self._step = state

    def close(self) -> None:
        """See Callback."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _write(self, part: str, prefix: str, step: int, numbers: Logs) -> None:
        if not numbers or not is_chief():
            return
        if part not in self._files:
            self._files[part] = EventFile(os.path.join(self.log_dir, part))
        self._files[part].add(step, {prefix + name: float(value) for name, value in numbers.items()})
