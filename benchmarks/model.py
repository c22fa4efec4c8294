"""What a step costs on many nodes: a model with measured constants. See ``docs/performance.md``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Constants", "predicted", "wire_floor"]


@dataclass(frozen=True)
class Constants:
    """What is measured on two nodes, or on one.

    Attributes:
        fixed: seconds of a step of next to no parameters, on the nodes.
        per_parameter: seconds a parameter of a step on one node alone.
        bytes_per_second: what MPI brings over the wire in each direction at once.
        latency: seconds of one message.
    """

    fixed: float
    per_parameter: float
    bytes_per_second: float
    latency: float = 0.0


def wire_floor(parameters: int, nodes: int, bytes_per_second: float, itemsize: int = 4) -> float:
    """The seconds that an all-reduce of the parameters' gradients keeps each node's wire busy.

    Source: Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations",
    JPDC 69(2), 2009: ``2 (N - 1) / N`` times the bytes.
    """
    return 2 * (nodes - 1) / nodes * parameters * itemsize / bytes_per_second


def predicted(parameters: int, nodes: int, constants: Constants, blocks: int = 1) -> float:
    """The seconds of a step: what is fixed, and the longer of wire and memory, which go on together.

    The first block's wire time and the last one's update have nothing to go on with. Each of the two
    exchanges of a block sends to every other node, the messages of one exchange in flight together;
    a longer tree of nodes costs latencies, not bytes.

    Args:
        parameters: in all.
        nodes: how many.
        constants: measured.
        blocks: in how many the parameters are exchanged.
    """
    node = constants.per_parameter * parameters
    if nodes == 1:
        return constants.fixed + node
    net = wire_floor(parameters, nodes, constants.bytes_per_second)
    latency = 2 * constants.latency * max(nodes - 2, 0)
    return constants.fixed + latency + max(node, net) + min(node, net) / max(blocks, 1)
