"""The training that faults are made in: its folder, its start, its right end."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from chaos.board import Board
from chaos.jobs import Done, Job, launched, start

__all__ = ["REPLICAS", "Training"]

REPLICAS = 2
_MODULE = "chaos.programs.training"


class Training:
    """Digits, trained once without any fault, to compare with.

    Args:
        place: the scenario's folder.
        epochs: of 45 steps each.

    Attributes:
        steps: of the whole training.
        digest: the SHA-256 that it has to end with, and the accuracy.
        seconds: what it takes.
        starting: of these, from a replica's first line to its first step.

    Raises:
        RuntimeError: it fails without any fault.
    """

    def __init__(self, place: Path, epochs: int = 12) -> None:
        from sklearn.datasets import load_digits

        self._place, self._epochs, self._count = place, epochs, 0
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
        """Where its replicas write what they do."""
        return Board(folder / "board", REPLICAS)

    def start(self, folder: Path, *options: str, environ: Mapping[str, str] | None = None) -> Job:
        """Starts it, or goes on with it."""
        words = launched("-n", REPLICAS, *options, "-m", _MODULE, folder, self._epochs)
        return start(words, folder, environ)

    def result(self, folder: Path) -> str:
        """What it ended with; empty if it did not."""
        file = folder / "digest"
        return file.read_text() if file.exists() else ""

    def wrong(self, folder: Path, done: Done, code: int = 0) -> list[str]:
        """What is not as it has to be at the end of a job; the folder goes if all is well."""
        found = [f"left behind: {what}" for what in done.left]
        if done.code != code:
            found.append(f"exit code {done.code}, not {code}: {done.err[-2000:]}")
        if code == 0 and self.result(folder) != self.digest:
            found.append(f"ended with {self.result(folder)!r}, not with {self.digest!r}")
        if not found and code == 0:
            shutil.rmtree(folder)
        return found
