"""Callbacks that write files: CSVLogger and ModelCheckpoint. Replica 0 writes."""

from __future__ import annotations

import csv
import io
import os
from typing import Any, BinaryIO

from distopt.core.checks import as_one_of, as_path
from distopt.file_access import open_to_append, open_to_write
from distopt.file_writing import append_whole, explained_errors
from distopt.keras.callbacks.callback import Callback, Logs, is_chief
from distopt.keras.callbacks.monitor import MonitorCallback
from distopt.keras.callbacks.states import check_number

__all__ = ["CSVLogger", "ModelCheckpoint"]


class CSVLogger(Callback):
    """Writes the logs of each epoch to a CSV file, one line an epoch, with NA for missing values.

    Args:
        filename: the file.
        separator: the separator of columns.
        append: whether to append to an existing file instead of replacing it.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        super().__init__()
        self.filename = filename
        self.separator = separator
        self.append = append
        self._file: BinaryIO | None = None
        self._columns: list[str] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """See Callback."""
        if is_chief():
            with explained_errors(self.filename, "the log of epochs"):
                self._file = (open_to_append if self.append else open_to_write)(self.filename)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        if self._file is None:
            return
        row = {"epoch": epoch, **(logs or {})}
        text = io.StringIO(newline="")
        columns = self._columns or self._columns_of(row)
        writer = csv.DictWriter(text, columns, delimiter=self.separator, restval="NA", extrasaction="ignore")
        if not self._columns and os.fstat(self._file.fileno()).st_size == 0:
            writer.writeheader()
        writer.writerow(row)
        append_whole(self._file, text.getvalue().encode(), self.filename, "the log of epochs")
        self._columns = columns

    def _columns_of(self, row: dict[str, Any]) -> list[str]:
        """What the first row holds, and what validation will tell if it comes after later epochs only."""
        state = self.model.fit_state
        later = [] if state is None or not state.awaits_validation else [*row]
        return list(dict.fromkeys([*row, *(f"val_{name}" for name in later if name not in ("epoch", "lr"))]))

    def close(self) -> None:
        """See Callback."""
        if self._file is not None:
            self._file.close()
            self._file, self._columns = None, []


class ModelCheckpoint(MonitorCallback):
    """Saves the weights of the model after each epoch.

    Args:
        filepath: the file, ending in ``.npz`` or ``.safetensors``. It may contain ``{epoch:02d}``, which
            counts from 1, and names of logs such as ``{val_loss:.3f}``. Nothing is saved after an epoch that
            lacks a value which the name needs.
        monitor: the name of the value that decides which weights are best. Epochs without it do not count.
        verbose: 1 to print what was saved.
        save_best_only: whether to save only when the value has improved.
        save_weights_only: accepted and ignored: only weights are saved.
        mode: "min", "max" or "auto".
        save_freq: must be "epoch".

    Attributes:
        best: the best value in all trainings with this callback.

    Raises:
        ValueError: the file has another ending, or ``save_freq`` is not "epoch".
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = True,
        mode: str = "auto",
        save_freq: str = "epoch",
    ) -> None:
        super().__init__(monitor, mode)
        self.filepath = as_path(filepath, "filepath")
        if not self.filepath.endswith((".npz", ".safetensors")):
            raise ValueError(f"filepath must end in .npz or .safetensors; got {self.filepath!r}")
        as_one_of(save_freq, "save_freq", ("epoch",))
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        best = self.best
        if self.save_best_only:
            value = self.get_monitor_value(logs)
            if value is None or not self.improved(value):
                return
        path = self._path(epoch, logs or {})
        if path is None:
            return
        try:
            self.model.save_weights(path)
        except BaseException:
            self.best = best  # what the file holds
            raise
        if self.verbose and is_chief():
            print(f"Epoch {epoch + 1}: weights saved to {path}")

    def _path(self, epoch: int, logs: Logs) -> str | None:
        """The file of this epoch; None if it is named after a validation, which this epoch had none of."""
        try:
            return self.filepath.format(epoch=epoch + 1, **logs)
        except KeyError as error:
            name = str(error.args[0])
        if self.comes_at_times(name):
            return None
        raise ValueError(
            f"filepath {self.filepath!r} names {name!r}, which the logs do not hold. "
            f"Known: epoch, {', '.join(logs)}"
        )

    def get_state(self) -> float:
        """Returns the state for backups."""
        return self.best

    def check_state(self, state: Any) -> None:
        """Raises an error if :meth:`set_state` would not accept this state."""
        check_number(state, "best")

    def set_state(self, state: float) -> None:
        """Restores a state of :meth:`get_state`."""
        self.best = state
