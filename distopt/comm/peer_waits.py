"""Measures how long a replica waits for messages, and for those of which peer."""

from __future__ import annotations

from time import monotonic_ns

import numpy as np

from distopt.typing import Array

__all__ = ["Arrivals", "PeerWaits"]


class PeerWaits:
    """The waits for messages in one group. Waits may be nested.

    Args:
        numbers: ``[3]`` int64, output: the peer with the longest wait, that wait in nanoseconds, and the sum
            of all waits whose peer is known, in nanoseconds.
        total: ``[1]`` int64, output: the sum of all waits, in nanoseconds.
        names: for each rank of the group, the number under which its waits are counted, such as its node.
    """

    def __init__(self, numbers: Array, total: Array, names: Array) -> None:
        self._numbers, self._total, self._names = numbers, total, names
        self._by_name = np.zeros(int(names.max()) + 1, np.int64)
        self._depth, self._since, self._known = 0, 0, 0

    def begin(self) -> None:
        """Starts a wait."""
        self._depth += 1
        if self._depth == 1:
            self._since = self._known = monotonic_ns()

    def end(self) -> None:
        """Ends a wait."""
        self._depth -= 1
        if self._depth == 0:
            self._total += monotonic_ns() - self._since

    def came(self, peer: int, begun: int) -> None:
        """Counts the wait for a message that has arrived, if its arrival depends only on sender and network.

        If several messages are expected at the same time, each nanosecond counts only for the first of them
        that arrives afterwards.

        Args:
            peer: the rank of the sender.
            begun: the time from which the message was expected, as of ``time.monotonic_ns``.
        """
        if self._depth == 0:
            return
        now = monotonic_ns()
        since, self._known = max(begun, self._known), now
        by_name, numbers, name = self._by_name, self._numbers, self._names[peer]
        by_name[name] += now - since
        numbers[2] += now - since
        if by_name[name] >= numbers[1]:
            numbers[0], numbers[1] = name, by_name[name]


class Arrivals:
    """Messages that this replica expects from now on.

    Args:
        waits: counts the wait for each of them.
    """

    def __init__(self, waits: PeerWaits) -> None:
        self._waits, self._begun = waits, monotonic_ns()

    def add(self, peer: int) -> None:
        """Called when the message of a peer has arrived."""
        self._waits.came(peer, self._begun)
