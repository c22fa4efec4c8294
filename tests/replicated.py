"""Programs on replicas of the test's own process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distopt.distribute import VirtualStrategy, get_replica_context

__all__ = ["on_replicas", "rank"]


def rank() -> int:
    """The number of the replica that calls it."""
    context = get_replica_context()
    assert context is not None
    return context.replica_id_in_sync_group


def on_replicas(size: int, program: Callable[[], Any]) -> list[Any]:
    """The results of ``program`` by replica."""
    results: list[Any] = [None] * size

    def run() -> None:
        results[rank()] = program()

    VirtualStrategy(size).run(run)
    return results
