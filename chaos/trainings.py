"""The training for fault injection: its folder, its start, its expected result."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from chaos.board import Board
from chaos.jobs import CompletedJob, Job, launch_command, start

__all__ = ["REPLICAS", "Training"]

REPLICAS = 2
_MODULE = "chaos.programs.training"


class Training:
    """Training on digits, run once without a fault as the reference.

    Args:
        place: the scenario's folder.
        epochs: of 45 steps each.
        prefix: words before the launcher's.
        hosts: words that tell the launcher of hosts.
        environ: further variables.

    Attributes:
        steps: total number of steps.
        digest: the expected result: a SHA-256 of the weights, and the accuracy.
        seconds: its duration without a fault.
        starting: seconds from a replica's first line to its first step.

    Raises:
        RuntimeError: it fails without a fault.
    """

    def __init__(
        self,
        place: Path,
        epochs: int = 12,
        prefix: Sequence[str] = (),
        hosts: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        from sklearn.datasets import load_digits

        self._place, self._epochs, self._count = place, epochs, 0
        self._prefix, self._hosts, self._environ = prefix, hosts, environ or {}
        images, labels = load_digits(return_X_y=True)
        cut = len(images) * 4 // 5
        self._data = {"x": (images[:cut] / 16).astype(np.float32), "y": labels[:cut]}
        self.steps = epochs * -(-cut // 32)
        folder = self.folder()
        board = self.board(folder)
        job = self.start(folder)
        job.until(lambda: board[0].starts > 0)
        begin = time.monotonic()
        job.until(lambda: board[0].steps > 0)
        self.starting = time.monotonic() - begin
        done = job.finish()
        if done.code or done.left:
            raise RuntimeError(f"exit code {done.code} without any fault, left: {done.left}\n{done.err}")
        self.digest, self.seconds = self.result(folder), done.seconds

    def folder(self) -> Path:
        """A new folder for one training."""
        self._count += 1
        folder = self._place / f"training-{self._count}"
        folder.mkdir()
        np.savez(folder / "digits.npz", **self._data)
        return folder

    def board(self, folder: Path) -> Board:
        """The board of its replicas."""
        return Board(folder / "board", REPLICAS)

    def start(self, folder: Path, *options: str, environ: Mapping[str, str] | None = None) -> Job:
        """Starts or continues it."""
        words = launch_command("-n", REPLICAS, *self._hosts, *options, "-m", _MODULE, folder, self._epochs)
        return start([*self._prefix, *words], folder, {**self._environ, **(environ or {})})

    def result(self, folder: Path) -> str:
        """Its result; empty if it has not finished."""
        file = folder / "digest"
        return file.read_text() if file.exists() else ""

    def wrong(self, folder: Path, done: CompletedJob, code: int = 0) -> list[str]:
        """What is wrong at the end of a job; if nothing is, the folder is removed."""
        found = [f"left behind: {what}" for what in done.left]
        if done.code != code:
            found.append(f"exit code {done.code}, not {code}: {done.err[-2000:]}")
        if code == 0 and self.result(folder) != self.digest:
            found.append(f"ended with {self.result(folder)!r}, not with {self.digest!r}")
        if not found and code == 0:
            shutil.rmtree(folder)
        return found
