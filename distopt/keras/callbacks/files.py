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
    """Writes the numbers of each epoch into a file, one line an epoch; NA where an epoch has none.

    Args:
        filename: the file.
        separator: between the columns.
        append: go on with a file that is there, instead of replacing it.
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
    """Saves the model's weights after an epoch.

    Args:
        filepath: the file, ending in ``.npz`` or ``.safetensors``; ``{epoch:02d}`` (from 1 on) and
            names of the logs such as ``{val_loss:.3f}`` in it are filled in. After epochs without a
            validation that it names, nothing is saved.
        monitor: the number that says which weights are best; epochs that end without it do not count.
        verbose: 1 to say what was saved.
        save_best_only: save only when the number became better.
        save_weights_only: accepted; weights are what is saved.
        mode: "min", "max" or "auto".
        save_freq: "epoch", the only one.

    Attributes:
        best: the best value, of all trainings with this callback.

    Raises:
        ValueError: another ending, or another ``save_freq``.
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
        """For backups."""
        return self.best

    def check_state(self, state: Any) -> None:
        """Raises if :meth:`set_state` could not take this."""
        check_number(state, "best")

    def set_state(self, state: float) -> None:
        """Restores what :meth:`get_state` returned."""
        self.best = state
