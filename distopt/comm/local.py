"""The replicas of one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["LocalGroup"]


class LocalGroup:
    """The replicas of this process, seen from one of them: here the only one.

    Attributes:
        rank: this replica's number among them.
        size: their number.
    """

    rank: int = 0
    size: int = 1

    def run_once(self, contribution: Any, function: Callable[[list[Any]], Any]) -> Any:
        """Runs ``function`` once a process, on what its replicas contribute; all of them get its result.

        Collective among the replicas of the process.

        Args:
            contribution: this replica's.
            function: called with all contributions, by rank.
        """
        return function([contribution])
