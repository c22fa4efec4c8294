"""How long a replica waits for messages, and from whom."""

from __future__ import annotations

from time import monotonic_ns

import numpy as np

from distopt.typing import Array

__all__ = ["Arrivals", "PeerWaits"]


class PeerWaits:
    """The waits for messages in one group. A wait may include another one.

    Args:
        numbers: memory for three numbers that others read: the peer with the longest wait, that wait in
            nanoseconds, and the nanoseconds of all waits whose peer is known.
        total: memory for the nanoseconds of all waits.
        names: for each peer, by its number in the group, the number under which it is counted.
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
    """Messages that this replica waits for from now on. Without waits it does nothing.

    Args:
        waits: is told of those that arrive.
    """

    def __init__(self, waits: PeerWaits) -> None:
        self._waits, self._begun = waits, monotonic_ns()

    def add(self, peer: int) -> None:
        """The message of a peer has arrived."""
        self._waits.came(peer, self._begun)
