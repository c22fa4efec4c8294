"""Exchange: one block on its way between nodes, round after round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter_ns

import numpy as np

from distopt.collectives.node_rounds import OWN, RECEIVED, SUMS, Message, NodeRounds, Span
from distopt.comm import Arrivals, Communicator, SpanRecorder
from distopt.core.split import shares
from distopt.typing import Array

__all__ = ["TAGS", "Exchange", "MessageTrace"]

#: As many exchanges may be on their way at once; MPI has at least 2**15 tags.
TAGS = 256
_ROUNDS = 128


class MessageTrace:
    """Writes down when messages travel.

    Args:
        spans: where.
        channel: a name of the exchanges that use one communicator, the same on all nodes.
        node: this node's number.
    """

    def __init__(self, spans: SpanRecorder, channel: str, node: int) -> None:
        self.spans, self._channel, self._node = spans, channel, node
        self._exchanges = 0

    def number(self) -> int:
        """The number of a new exchange; the same on all nodes."""
        self._exchanges += 1
        return self._exchanges

    def name(self, exchange: int, turn: int, sender: int, receiver: int) -> str:
        """A message's name, unique in the job."""
        return f"{self._channel}.{exchange}.{turn}.{sender}.{receiver}"

    def sent(self, exchange: int, turn: int, peers: Sequence[int]) -> None:
        """Messages of a round were sent to other nodes."""
        now = perf_counter_ns()
        for peer in peers:
            self.spans.add(("s", self.name(exchange, turn, self._node, peer), now))

    def received(self, exchange: int, turn: int, peers: Sequence[int], begun: int, nbytes: int) -> None:
        """Those of other nodes have come; ``begun``: since when they could."""
        now = perf_counter_ns()
        self.spans.add(("W", "wire", begun, now, {"nodes": list(peers), "round": turn, "bytes": nbytes}))
        for peer in peers:
            self.spans.add(("f", self.name(exchange, turn, peer, self._node), now))


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
        trace: writes down when messages travel; None for not at all.
        free: whether no node had to wait for others before it began this exchange: when its first messages
            come tells of the network between two nodes then.
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
        trace: MessageTrace | None = None,
        free: bool = True,
    ) -> None:
        self._free = free
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
        self.trace, self._exchange = trace, 0 if trace is None else trace.number()
        self._begin()

    @property
    def total(self) -> Array:
        """The block's total, once it is there."""
        return self._memory[SUMS, 0][0]

    def advance(self) -> bool:
        """Goes on as far as messages have come; whether the total is there."""
        while self._round < len(self._rounds) and self._arrived():
            self._unpack()
            if self._begun and self.trace is not None:
                peers = [message.peer for message, _ in self._incoming]
                nbytes = sum(room.nbytes for _, room in self._incoming)
                self.trace.received(self._exchange, self._round, peers, self._begun, nbytes)
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
        waits = self._cross.waits
        # Later messages depend on what their senders wait for, and so tell nothing of the senders.
        came = Arrivals(waits) if waits is not None and self._free and self._round == 0 else None
        self._arrived: Callable[[], bool] = self._cross.begin_messages(
            sent, received, self._tag + self._round, came
        )
        #: When, if spans are wanted; otherwise 0.
        self._begun = perf_counter_ns() if self.trace is not None and self.trace.spans.on else 0
        if self._begun and self.trace is not None:
            self.trace.sent(self._exchange, self._round, [message.peer for message in now.sent])

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
