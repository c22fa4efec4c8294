"""The replicas of one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["LocalGroup"]


class LocalGroup:
    """The replicas of this process, as one of them sees it; here the only one.

    Attributes:
        rank: this replica's number among them.
        size: their number.
    """

    rank: int = 0
    size: int = 1

    def run_once(self, contribution: Any, function: Callable[[list[Any]], Any]) -> Any:
        """Runs ``function`` once per process on the contributions of its replicas. All get its result.

        It is collective among the replicas of the process.

        Args:
            contribution: that of this replica.
            function: called with all contributions, by rank.
        """
        return function([contribution])
