"""How long a replica waits for messages, and for whose."""

from __future__ import annotations

from time import monotonic_ns

import numpy as np

from distopt.typing import Array

__all__ = ["Arrivals", "PeerWaits"]


class PeerWaits:
    """The waits for messages in one group, of which one may lie in another.

    Args:
        numbers: memory for three numbers, which others read: the peer that was waited for longest, for how
            many nanoseconds, and the nanoseconds that are known by peer, all together.
        total: memory for the nanoseconds of all waits.
        names: for each peer, by its number in the group, the number that it is counted under.
    """

    def __init__(self, numbers: Array, total: Array, names: Array) -> None:
        self._numbers, self._total, self._names = numbers, total, names
        self._by_name = np.zeros(int(names.max()) + 1, np.int64)
        self._depth, self._since, self._known = 0, 0, 0

    def begin(self) -> None:
        """A wait begins."""
        self._depth += 1
        if self._depth == 1:
            self._since = self._known = monotonic_ns()

    def end(self) -> None:
        """It is over."""
        self._depth -= 1
        if self._depth == 0:
            self._total += monotonic_ns() - self._since

    def came(self, peer: int, begun: int) -> None:
        """A peer's message has come, which depends on nothing but its sender and the network.

        Of the time in which this replica waited for it each nanosecond is counted once, for the first of
        those that come in it.

        Args:
            peer: its number.
            begun: since when it could come.
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
    """Messages that this replica waits for from now on; without waits, nobody is told.

    Args:
        waits: is told of those that come.
    """

    def __init__(self, waits: PeerWaits) -> None:
        self._waits, self._begun = waits, monotonic_ns()

    def add(self, peer: int) -> None:
        """That of a peer has come."""
        self._waits.came(peer, self._begun)
