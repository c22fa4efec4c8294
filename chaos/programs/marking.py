"""A replica's row on the board, kept up by marks around what it calls."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos.board import Board

__all__ = ["Marked"]


class Marked:
    """Writes what this replica does onto the board; to be made before anything is imported.

    Args:
        path: the board's file.
    """

    def __init__(self, path: Path) -> None:
        size = int(os.environ.get("DISTOPT_LAUNCH_SIZE", "1"))
        self._rank = int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")))
        self._board = Board(path, size)
        self._board.come(self._rank)
        self._phase = "start"

    def do(self, phase: str) -> None:
        """Something else begins."""
        self._phase = phase
        self._board.do(self._rank, phase)

    def at(self, steps: int) -> None:
        """So many steps are made."""
        self._board.at(self._rank, steps)

    def around(self, owner: type, phase: str, *names: str) -> None:
        """Marks the calls of these methods, but for those inside of other marked ones, or at the start."""
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
