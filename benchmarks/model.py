"""What a step costs on many nodes: a model with measured constants. See ``docs/performance.md``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from distopt.collectives.link import AHEAD, Link, block_factor, block_of, cheapest_rule
from distopt.collectives.node_rounds import load

__all__ = ["BLOCK", "Constants", "predicted", "step_features", "wire_floor"]

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
    byte = 1 / constants.bytes_per_second
    exchange = _exchange(parameters, nodes, Link(constants.latency, constants.message, byte))
    waits = exchange.waits * constants.latency + exchange.messages * constants.message
    return node + waits + exchange.nbytes * byte


def step_features(parameters: int, nodes: int, latency: float, byte: float) -> tuple[float, float]:
    """How often a step waits for a latency, that of its header included, and how many bytes a node sends."""
    exchange = _exchange(parameters, nodes, Link(latency, 1e-5, byte))
    return exchange.waits + math.ceil(math.log2(nodes)), exchange.nbytes


class _Exchanges(NamedTuple):
    """A step's exchanges: latencies one after the other, and the busiest node's messages and bytes."""

    waits: float
    messages: int
    nbytes: float


def _exchange(parameters: int, nodes: int, link: Link) -> _Exchanges:
    members = tuple((n,) for n in range(nodes))
    block = block_of(parameters, BLOCK, BLOCK * block_factor(members, 4 * BLOCK, link))
    takes = load(members, cheapest_rule(members, 4 * min(block, parameters), link))
    blocks = max(math.ceil(parameters / block), 1)
    # The latencies of blocks that travel at once pass at once, those of the first one nobody shares.
    waits = takes.rounds * (1 + (blocks - 1) / (1 + AHEAD))
    return _Exchanges(waits, takes.messages * blocks, takes.blocks * 4 * parameters)
