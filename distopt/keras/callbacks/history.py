"""History: the numbers of each epoch, and their curves."""

from __future__ import annotations

import io
import os
from typing import Any

from distopt.errors import MissingExtra
from distopt.file_access import open_to_write
from distopt.keras.callbacks.callback import Callback, Logs, is_chief

__all__ = ["History"]


class History(Callback):
    """Keeps what each epoch ended with; ``fit`` returns one.

    Attributes:
        history: name -> the values, one for each epoch.
        epoch: the numbers of the epochs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)

    def get_state(self) -> dict[str, Any]:
        """For backups."""
        return {"epoch": self.epoch, "history": self.history}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes back to what :meth:`get_state` told."""
        self.epoch, self.history = state["epoch"], state["history"]

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draws the curves, each metric beside its validation.

        Args:
            path: the picture's file, which replica 0 writes; its ending says the format. None: no file.

        Returns:
            the figure, of matplotlib.

        Raises:
            MissingExtra: matplotlib is not installed.
            ValueError: there is no epoch yet.
        """
        if not self.epoch:
            raise ValueError("there is nothing to draw: the history holds no epoch")
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise MissingExtra.of("History.plot()", "matplotlib") from None
        names = [name for name in self.history if not name.startswith("val_")]
        figure = Figure(figsize=(4.5 * len(names), 3.5), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            for shown, label in ((name, "training"), (f"val_{name}", "validation")):
                values = self.history.get(shown, [])
                # Validation may come less often than every epoch; it ends together with the training.
                step = max(len(self.epoch) // max(len(values), 1), 1)
                epochs = [epoch + 1 for epoch in self.epoch[step - 1 :: step]][: len(values)]
                if values:
                    axes.plot(epochs, values, marker=".", label=label)
            axes.set_xlabel("epoch")
            axes.set_title(name)
            axes.grid(alpha=0.3)
            axes.legend()
        if path is not None and is_chief():
            _write(figure, os.fspath(path))
        return figure


def _write(figure: Any, path: str) -> None:
    ending = os.path.splitext(path)[1]
    picture = io.BytesIO()
    figure.savefig(picture, format=ending[1:] or "png")
    with open_to_write(path if ending else f"{path}.png") as file:
        file.write(picture.getbuffer())
