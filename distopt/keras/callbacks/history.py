"""History: the numbers of each epoch, and their curves."""

from __future__ import annotations

import io
import os
from typing import Any

from distopt.core.checks import as_count, shown
from distopt.errors import MissingExtra
from distopt.file_writing import write_whole
from distopt.keras.callbacks.callback import Callback, Logs, is_chief
from distopt.keras.callbacks.states import check_members

__all__ = ["History"]


class History(Callback):
    """Records the logs of each epoch. ``fit`` returns one.

    Histories of the same numbers are equal: ``VirtualStrategy.run`` returns the one that all replicas have.

    Attributes:
        history: name -> the values, one for each epoch.
        epoch: the numbers of the epochs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []
        #: The epochs of each name's values: validation may come less often than training.
        self._epochs: dict[str, list[int]] = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
            self._epochs.setdefault(name, []).append(epoch)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.get_state() == other.get_state()

    __hash__ = None  # type: ignore[assignment] # it changes

    def get_state(self) -> dict[str, Any]:
        """Returns the state for backups."""
        return {"epoch": self.epoch, "history": self.history, "epochs": self._epochs}

    def check_state(self, state: Any) -> None:
        """Raises an error if :meth:`set_state` would not accept this state."""
        check_members(state, {"epoch", "history", "epochs"})
        history, epochs = state["history"], state["epochs"]
        if not isinstance(state["epoch"], list) or not isinstance(history, dict):
            raise TypeError("the epochs are not a list, or their numbers are not a dict")
        if not isinstance(epochs, dict) or set(epochs) != set(history):
            raise ValueError("there are not the epochs of each number")
        for name, values in history.items():
            if not isinstance(name, str) or not isinstance(values, list):
                raise TypeError("the numbers of the epochs are not a dict of lists")
            if not isinstance(epochs[name], list) or len(epochs[name]) != len(values):
                raise ValueError(f"the numbers {shown(name)} are not one for each of its epochs")
        for numbers in (state["epoch"], *epochs.values()):
            for number in numbers:
                as_count(number, "epoch", least=0)

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores a state of :meth:`get_state`."""
        self.epoch, self.history, self._epochs = state["epoch"], state["history"], state["epochs"]

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Plots each metric together with its validation.

        Args:
            path: the image file, which replica 0 writes. Its ending selects the format. None for no file.

        Returns:
            The matplotlib figure, which notebooks show.

        Raises:
            MissingExtra: matplotlib is not installed.
            ValueError: no epoch has ended yet.
            OSError: the file cannot be written. An existing file is kept.
        """
        if not self.epoch:
            raise ValueError("there is nothing to plot: the history has no epochs")
        names = [name for name in self.history if not name.startswith("val_")]
        figure = _figure(figsize=(4.5 * len(names), 3.5), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            for curve, label in ((name, "training"), (f"val_{name}", "validation")):
                if curve in self._epochs:
                    epochs = [epoch + 1 for epoch in self._epochs[curve]]
                    axes.plot(epochs, self.history[curve], marker=".", label=label)
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set_title(name)
            axes.grid(alpha=0.3)
            axes.legend()
        if path is not None and is_chief():
            _write(figure, os.fspath(path))
        return figure


def _figure(**options: Any) -> Any:
    """An empty figure that shows itself in notebooks, also where pyplot has not been set up there."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra.of("History.plot()", "matplotlib") from None

    class Curves(Figure):
        def _repr_png_(self) -> bytes:
            picture = io.BytesIO()
            self.savefig(picture, format="png")
            return picture.getvalue()

    return Curves(**options)


def _write(figure: Any, path: str) -> None:
    ending = os.path.splitext(path)[1]
    picture = io.BytesIO()
    figure.savefig(picture, format=ending[1:] or "png")
    write_whole(path if ending else f"{path}.png", picture.getvalue(), "the picture of the history")
