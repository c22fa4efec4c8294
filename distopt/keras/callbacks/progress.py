"""ProgressBar: how far training is."""

from __future__ import annotations

import io
import shutil
import sys
import time
from importlib.util import find_spec
from typing import Any

from distopt.core.checks import shown
from distopt.distribute import Report, report
from distopt.errors import MissingExtra
from distopt.keras.callbacks.callback import Callback, Logs, is_chief
from distopt.launched import shown_on_terminal

__all__ = ["ProgressBar", "shown_logs"]

#: Seconds from one state of a bar that is a line to the next.
_REFRESH = 0.1
#: What the launcher puts before a line, at most.
_PREFIX = 8


def shown_logs(logs: Logs) -> str:
    """``loss 0.1234  accuracy 0.9876`` of numbers."""
    return "  ".join(
        f"{name} {value:.4f}" if isinstance(value, float) and abs(value) >= 1e-3 else f"{name} {value:.4g}"
        for name, value in logs.items()
        if isinstance(value, (int, float))
    )


class ProgressBar(Callback):
    """Shows progress on replica 0: a bar on a terminal or in a notebook, otherwise one line an epoch.

    It shows loss and metrics, examples a second, the number of replicas and, on the bar, the remaining time.
    During an epoch, the loss is that of replica 0's examples. At the end it is that of all examples.

    Args:
        verbose: 0 for nothing; 1 for a bar on a terminal or in a notebook, otherwise lines; 2 for lines;
            "auto" for a bar if rich is installed, otherwise lines.

    Raises:
        ValueError: ``verbose`` has another value.
        MissingExtra: ``verbose=1`` would show a bar, but rich is not installed.
    """

    local_batches = True

    def __init__(self, verbose: Any = "auto") -> None:
        super().__init__()
        if not isinstance(verbose, (int, str)) or verbose not in (0, 1, 2, "auto"):
            raise ValueError(f"verbose must be 0, 1, 2 or 'auto'; got {shown(verbose)}")
        self.verbose = verbose
        self._lines = self._bar = False
        self._progress: Any = None
        self._task: Any = None
        self._line: _Line | None = None
        self._begun = self._batch_ended = 0.0
        self._examples = 0
        self._before: Report | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """See Callback."""
        wanted = bool(self.verbose) and is_chief()
        self._bar = wanted and self.verbose != 2 and _moves()
        if self._bar and find_spec("rich") is None:
            if self.verbose == 1:
                raise MissingExtra.of("the progress bar", "rich")
            self._bar = False
        self._lines = wanted and not self._bar

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        self._begun, self._examples = time.perf_counter(), 0
        self._batch_ended = self._begun
        self._before = report()
        if self._bar:
            self._open_bar(epoch)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        if not (self._bar or self._lines) or not logs:
            return
        self._examples += logs["size"]
        self._batch_ended = time.perf_counter()
        if self._bar:
            shown = {name: value for name, value in logs.items() if name != "size"}
            waits = "" if self._line is not None else self._waits()  # a line is too short for them
            self._progress.update(
                self._task, advance=1, numbers=f"{shown_logs(shown)}  {self._rate()}{waits}"
            )
            if self._line is not None:
                self._line.show(self._progress)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """See Callback."""
        replicas = self.params["replicas"]
        where = "1 replica" if replicas == 1 else f"{replicas} replicas"
        text = f"{shown_logs(logs or {})}  {self._rate()}{self._waits()} on {where}"
        if self._bar:
            self._progress.update(self._task, numbers=text)
            self.close()
        elif self._lines:
            seconds = time.perf_counter() - self._begun
            print(f"{self._title(epoch)}  {text}  {seconds:.1f} s", flush=True)

    def close(self) -> None:
        """See Callback."""
        if self._progress is not None and self._line is not None:
            self._line.end(self._progress)
        elif self._progress is not None:
            self._progress.stop()
        self._progress = self._line = None

    def _open_bar(self, epoch: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._line = None if sys.stdout.isatty() else _Line()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24 if self._line is None else 12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
        )
        self._task = self._progress.add_task(self._title(epoch), total=self.params["steps"], numbers="")
        if self._line is None:
            self._progress.start()

    def _title(self, epoch: int) -> str:
        return f"Epoch {epoch + 1}/{self.params['epochs']}"

    def _rate(self) -> str:
        seconds = max(self._batch_ended - self._begun, 1e-9)
        return f"{self._examples / seconds:,.0f} examples/s"

    def _waits(self) -> str:
        """Who keeps the others waiting in this epoch, if it is one replica, and if it costs much."""
        now = None if self.params["replicas"] == 1 else report()
        if now is None or self._before is None:
            return ""
        text = now.since(self._before).short()
        return f"  {text}" if text else ""


def _moves() -> bool:
    """Whether what is printed can be seen to move: on a terminal, the launcher's too, and in a notebook."""
    if sys.stdout.isatty() or shown_on_terminal():
        return True
    shell = sys.modules.get("ipykernel.zmqshell")
    return shell is not None and shell.ZMQInteractiveShell.initialized()


class _Line:
    """A bar that is one line, written over and over: the launcher and notebooks show it."""

    def __init__(self) -> None:
        from rich.console import Console

        columns = shutil.get_terminal_size().columns - _PREFIX
        self._console = Console(file=io.StringIO(), width=columns, force_terminal=False, force_jupyter=False)
        self._shown = 0.0

    def show(self, progress: Any) -> None:
        """Writes the bar as it is now, unless that was done a moment ago."""
        if time.monotonic() - self._shown >= _REFRESH:
            self._write(progress, "")

    def end(self, progress: Any) -> None:
        """Writes it for the last time, and whole."""
        self._console.width *= 4
        self._write(progress, "\n")

    def _write(self, progress: Any, end: str) -> None:
        with self._console.capture() as captured:
            self._console.print(progress.get_renderable())
        self._shown = time.monotonic()
        print(f"\r{captured.get().rstrip()}", end=end, flush=True)
