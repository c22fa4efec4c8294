"""Keeps a replica's row of the board up to date, by wrapping the methods that it calls."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos.board import Board

__all__ = ["Marked"]


class Marked:
    """Writes what this replica does to the board; create it before importing anything else.

    Args:
        path: the board's file.
    """

    def __init__(self, path: Path) -> None:
        size = int(os.environ.get("DISTOPT_LAUNCH_SIZE", "1"))
        self._rank = int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")))
        self._board = Board(path, size)
        self._board.start(self._rank)
        self._phase = "start"

    def do(self, phase: str) -> None:
        """Begins another phase."""
        self._phase = phase
        self._board.set_phase(self._rank, phase)

    def at(self, steps: int) -> None:
        """Records the number of steps."""
        self._board.set_steps(self._rank, steps)

    def around(self, owner: type, phase: str, *names: str) -> None:
        """Marks calls of these methods, except within other marked ones, or at the start."""
        for name in names:
            setattr(owner, name, self._marked(getattr(owner, name), phase))

    def _marked(self, call: Callable[..., Any], phase: str) -> Callable[..., Any]:
        def marked(*args: Any, **kwargs: Any) -> Any:
            if self._phase != "computing":
                return call(*args, **kwargs)
            self.do(phase)
            try:
                return call(*args, **kwargs)
            finally:
                self.do("computing")

        return marked
