"""What a step costs on many nodes: a model. See docs/explanation/many-nodes.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from distopt.collectives.link import AHEAD, Link, block_sizes, cheapest_rule
from distopt.collectives.node_rounds import load

__all__ = ["BLOCK", "Constants", "Exchanges", "exchanges", "predicted", "wire_floor"]

#: Elements that the step engine exchanges at a time, about.
BLOCK = 2**19


@dataclass(frozen=True)
class Constants:
    """What is measured on two nodes, or on one.

    Attributes:
        fixed: seconds of a step of next to no parameters, over the nodes.
        per_parameter: seconds a parameter of a step on one node alone.
        bytes_per_second: what MPI brings over the wire in each direction at once.
        message: seconds that each message takes on top of its bytes.
        latency: seconds until the first message of a round is there.
    """

    fixed: float
    per_parameter: float
    bytes_per_second: float
    message: float = 0.0
    latency: float = 0.0


def wire_floor(parameters: int, nodes: int, bytes_per_second: float, itemsize: int = 4) -> float:
    """The seconds that an all-reduce of the parameters' gradients keeps each node's wire busy.

    Source: Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations",
    JPDC 69(2), 2009: ``2 (N - 1) / N`` times the bytes.
    """
    return 2 * (nodes - 1) / nodes * parameters * itemsize / bytes_per_second


def predicted(parameters: int, nodes: int, constants: Constants) -> float:
    """The seconds of a step: what is fixed, the memory's work, and the wire's, one after the other.

    The wire's work is that of the exchanges which the engine chooses, one replica a node.
    """
    node = constants.fixed + constants.per_parameter * parameters
    if nodes == 1:
        return node
    link = Link(constants.latency, constants.message, 1 / constants.bytes_per_second)
    members = _members(nodes)
    block = block_sizes(BLOCK, 1, members, link).of(parameters)
    step = exchanges(parameters, nodes, cheapest_rule(members, 4 * block, link), block)
    return node + step.waits * link.latency + step.messages * link.message + step.nbytes * link.byte


class Exchanges(NamedTuple):
    """A step's exchanges: latencies one after the other, and the busiest node's messages and bytes."""

    waits: float
    messages: int
    nbytes: float


def exchanges(parameters: int, nodes: int, rule: str, block: int = BLOCK) -> Exchanges:
    """The exchanges of a step by a rule of :mod:`distopt.collectives.transfers`, in blocks."""
    takes, blocks = load(_members(nodes), rule), max(math.ceil(parameters / block), 1)
    # The latencies of blocks that travel at once pass at once, those of the first one nobody shares.
    waits = takes.rounds * (1 + (blocks - 1) / (1 + AHEAD))
    return Exchanges(waits, takes.messages * blocks, takes.blocks * 4 * parameters)


def _members(nodes: int) -> tuple[tuple[int, ...], ...]:
    return tuple((n,) for n in range(nodes))
