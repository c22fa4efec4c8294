"""The replicas of one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["LocalGroup"]


class LocalGroup:
    """The replicas of this process. This class is for a single one; see ``ThreadGroup`` for several.

    Attributes:
        rank: this replica's number in the group.
        size: the number of replicas in the group.
    """

    rank: int = 0
    size: int = 1

    def run_once(self, contribution: Any, function: Callable[[list[Any]], Any]) -> Any:
        """Runs ``function`` once per process and returns its result on all replicas; collective among them.

        Args:
            contribution: this replica's argument.
            function: called with the contributions of all replicas, by rank.
        """
        return function([contribution])
