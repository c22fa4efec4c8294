"""What a step costs on many nodes: a model with measured constants. See ``docs/performance.md``."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["BLOCK", "Constants", "predicted", "wire_floor"]

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
    """

    fixed: float
    per_parameter: float
    bytes_per_second: float
    message: float = 0.0


def wire_floor(parameters: int, nodes: int, bytes_per_second: float, itemsize: int = 4) -> float:
    """The seconds that an all-reduce of the parameters' gradients keeps each node's wire busy.

    Source: Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations",
    JPDC 69(2), 2009: ``2 (N - 1) / N`` times the bytes.
    """
    return 2 * (nodes - 1) / nodes * parameters * itemsize / bytes_per_second


def predicted(parameters: int, nodes: int, constants: Constants) -> float:
    """The seconds of a step: what is fixed, the memory's work, and the wire's, one after the other.

    For each block a node sends one message to every other node, twice: parts of its sums, then its
    part of the whole sum.
    """
    blocks = max(math.ceil(parameters / BLOCK), 1)
    node = constants.per_parameter * parameters
    wire = wire_floor(parameters, nodes, constants.bytes_per_second)
    wire += 2 * (nodes - 1) * blocks * constants.message
    return constants.fixed + node + wire
