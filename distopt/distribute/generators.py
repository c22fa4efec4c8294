"""Global random generators for replicas that share a process: each has states of its own, as in a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from distopt.core.generators import differences, save_states, set_states

__all__ = ["ReplicaGenerators", "keep_states"]


class ReplicaGenerators:
    """The states of the global random generators by replica, from one run to the next.

    The first run starts all replicas with the caller's states; a single one just has them. Between runs the
    caller has those of replica 0. Code there speaks for all replicas: a generator that it seeds or draws
    from, it changes for all.

    Args:
        size: the number of replicas.
    """

    def __init__(self, size: int) -> None:
        self._states: list[dict[str, Any]] = [{} for _ in range(size)]

    @contextmanager
    def run(self) -> Iterator[None]:
        """The time of one run, in the caller's thread."""
        if len(self._states) == 1:
            yield
            return
        changed = differences(save_states(), self._states[0])
        self._states = [{**states, **changed} for states in self._states]
        try:
            yield
        finally:
            set_states(self._states[0])
            self._states[0] = save_states()  # with that of a library that another replica imported

    @contextmanager
    def of(self, index: int) -> Iterator[None]:
        """The time that a replica takes part in a run, in its own thread."""
        if len(self._states) == 1:
            yield
            return
        set_states(self._states[index])
        try:
            yield
        finally:
            self._states[index] = save_states()


def keep_states() -> Callable[[], None]:
    """Saves the generators' states; returns a function that sets them again (see TurnScheduler)."""
    return partial(set_states, save_states())
