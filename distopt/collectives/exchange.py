"""Exchange: one block on its way between nodes, round after round."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from distopt.collectives.node_rounds import OWN, RECEIVED, SUMS, Message, NodeRounds, Span
from distopt.comm import Communicator
from distopt.core.split import shares
from distopt.typing import Array

__all__ = ["TAGS", "Exchange"]

#: As many exchanges may be on their way at once; MPI has at least 2**15 tags.
TAGS = 256
_ROUNDS = 128


class Exchange:
    """One node's side of it. It begins at once, and goes on whenever :meth:`advance` is called.

    Args:
        cross: the nodes.
        plan: what this node does.
        own: its own rows, in the order of the plan, 1-D, of one length and dtype; not changed, and to be left
            as they are until the exchange is over.
        ufunc: how two values are combined.
        number: how many exchanges this node has begun before; the same on all nodes.
        rooms: for each round, room for each message that comes, however long other nodes' blocks are; where
            it is not known yet whether they have the same one. By default a message has the room it needs.
        empty: gives the memory for sums, and for messages without a room; as ``np.empty``.
    """

    def __init__(
        self,
        cross: Communicator,
        plan: NodeRounds,
        own: Sequence[Array],
        ufunc: np.ufunc,
        number: int,
        rooms: Sequence[Sequence[Array]] | None = None,
        empty: Callable[..., Array] = np.empty,
    ) -> None:
        self._cross, self._rounds, self._ufunc, self._rooms = cross, plan.rounds, ufunc, rooms
        self._empty = empty
        length, self._dtype = own[0].size, own[0].dtype
        self._ends: list[int] = [0, *np.cumsum(shares(length, plan.parts)).tolist()]
        # For each memory where it begins in the block.
        sums = empty((plan.sums, length), self._dtype)
        self._memory = {(OWN, k): (row, 0) for k, row in enumerate(own)}
        self._memory.update({(SUMS, k): (row, 0) for k, row in enumerate(sums)})
        self._tag = number % TAGS * _ROUNDS
        self._round = 0
        self._begin()

    @property
    def total(self) -> Array:
        """The block's total, once it is there."""
        return self._memory[SUMS, 0][0]

    def advance(self) -> bool:
        """Goes on as far as messages have come; whether the total is there."""
        while self._round < len(self._rounds) and self._arrived():
            self._unpack()
            for out, left, right in self._rounds[self._round].sums:
                self._ufunc(self._view(left), self._view(right), out=self._view(out))
            self._round += 1
            if self._round < len(self._rounds):
                self._begin()
        return self._round == len(self._rounds)

    def give_up(self) -> None:
        """Lets the rest of the exchange go on without a block: its messages are empty from now on."""
        self._ends = [0] * len(self._ends)

    def _begin(self) -> None:
        """Begins the messages of a round."""
        now = self._rounds[self._round]
        sent = [(message.peer, self._packed(message)) for message in now.sent]
        self._incoming = [(message, self._room(message, k)) for k, message in enumerate(now.received)]
        received = [(message.peer, room) for message, room in self._incoming]
        self._arrived: Callable[[], bool] = self._cross.begin_messages(
            sent, received, self._tag + self._round
        )

    def _packed(self, message: Message) -> Array:
        views = [self._view(span) for span in message.spans]
        return views[0] if len(views) == 1 else np.concatenate(views)

    def _room(self, message: Message, number: int) -> Array:
        """Where a message of the round goes: where it belongs, if that is one place."""
        spans = message.spans
        if self._rooms is not None:
            return self._rooms[self._round][number]
        if len(spans) == 1 and spans[0].memory[0] == SUMS:
            return self._view(spans[0])
        return self._empty(sum(map(self._length, spans)), self._dtype)

    def _unpack(self) -> None:
        """Puts what has come where it belongs."""
        for message, room in self._incoming:
            start = 0
            for span in message.spans:
                part = room.view(self._dtype)[start : start + self._length(span)]
                start += part.size
                if span.memory[0] == RECEIVED:
                    self._memory[span.memory] = part, self._ends[span.start]
                elif len(message.spans) > 1 or self._rooms is not None:
                    np.copyto(self._view(span), part)

    def _length(self, span: Span) -> int:
        return self._ends[span.stop] - self._ends[span.start]

    def _view(self, span: Span) -> Array:
        memory, origin = self._memory[span.memory]
        return memory[self._ends[span.start] - origin : self._ends[span.stop] - origin]
