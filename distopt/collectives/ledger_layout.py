"""The memory layout of the ledger, for its writers in compiled code and for its readers.

All numbers are int64, little endian; all times are in nanoseconds. A block of memory contains a JSON head of
``HEAD_BYTES``, the totals ``[replicas, TOTAL_ITEMS]``, and a ring of the last calls
``[calls, replicas, ROW_ITEMS]``.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "CAUSES",
    "CLOCK_ITEMS",
    "HEAD_BYTES",
    "MAGIC",
    "MINE_ITEMS",
    "PHASES",
    "ROW_FIELDS",
    "ROW_ITEMS",
    "TOTAL_FIELDS",
    "TOTAL_ITEMS",
    "Clock",
    "Mine",
    "Phase",
    "Row",
    "Total",
    "ring_calls",
]

MAGIC = b"distopt-ledger\0\0"
HEAD_BYTES = 4096
ROW_ITEMS, TOTAL_ITEMS, CLOCK_ITEMS, MINE_ITEMS = 16, 16, 4, 32
#: The most calls in the ring, and its largest size in bytes, unless two calls alone need more.
_CALLS, _RING_BYTES = 4096, 16 << 20


def ring_calls(replicas: int) -> int:
    """How many calls the ring of a job contains: at least 2, because ``settle`` compares two calls."""
    return max(min(_CALLS, _RING_BYTES // (replicas * ROW_ITEMS * 8)), 2)


class Phase(IntEnum):
    """How a replica spends its time."""

    OWN_CODE = 0  # the program, outside distopt
    INPUT = 1  # loading data
    SAVING = 2  # saving checkpoints
    WIRE = 3  # waiting for messages from other nodes
    IN_CALL = 4  # in a collective call, such as summing and updating
    WAITING = 5  # until all replicas have arrived at a call


#: Their names in reports. All but waiting can be the cause that a replica arrives last.
PHASES = ("own code", "input", "saving", "wire", "sum and update", "waiting")
CAUSES = PHASES[:5]


class Row(IntEnum):
    """The fields of a row: one replica at one header."""

    CALL = 0  # number of the call; written last, 0 while the row is being written
    STEP = 1  # how many optimizer steps the replica has begun
    ARRIVAL = 2  # when the replica arrived at the header
    BEGUN = 3  # when it left the previous call
    OWN = 4  # 6 fields: time in each phase from the start to the arrival
    MET = 10  # when it saw that all had arrived; 0 before that, and in rows from other nodes
    MET_BEFORE = 11  # MET of the previous call, by the replica's own clock
    PEER = 12  # the node whose messages it has waited for longest since the start
    PEER_WAITED = 13  # how long it has waited for them
    PEERS_WAITED = 14  # how long it has waited for messages of all nodes
    APART = 15  # how long it has waited in calls within its node


ROW_FIELDS = (
    *("call", "step", "arrival", "begun", "own_code", "input", "saving", "wire", "in_call", "waiting"),
    *("met", "met_before", "peer", "peer_waited", "peers_waited", "apart"),
)


class Total(IntEnum):
    """The fields of a replica's totals: how often it arrived last since the start."""

    CALLS = 0  # in how many calls
    STEPS = 1  # in the first calls of how many steps
    LAST = 2  # 5 fields: in how many calls by cause
    COST = 7  # 5 fields: the average time that the others waited for it, by cause


TOTAL_FIELDS = (
    *("last_calls", "last_steps"),
    *("last_own_code", "last_input", "last_saving", "last_wire", "last_in_call"),
    *("cost_own_code", "cost_input", "cost_saving", "cost_wire", "cost_in_call"),
    *("reserved0", "reserved1", "reserved2", "reserved3"),
)


class Clock(IntEnum):
    """The fields for a replica's clock: bounds of its offset from this replica's clock."""

    HERE = 0  # 1 if the replica is on this node, and so has the same clock
    LOW = 1  # the clock is ahead by at least this
    HIGH = 2  # and by at most this


class Mine(IntEnum):
    """The fields of a replica's private state."""

    RING = 0  # address of the ring
    TOTALS = 1  # address of the totals; 0 if another replica writes them
    CLOCKS = 2  # address of the clocks
    REPLICAS = 3
    LENGTH = 4  # calls in the ring
    RANK = 5
    VIRTUAL = 6  # 1 for replicas of one process, which take turns
    PHASE = 7  # the current phase outside calls: own code, input or saving
    MARK = 8  # the time up to which the phases are added up
    INSIDE = 9  # 1 from the exchange of a header until the end of its call
    ENDED = 10  # when the last call ended
    MET = 11  # when all had arrived at the last header
    BEGUN = 12  # as in Row
    ARRIVAL = 13  # as in Row
    BASE = 14  # the arrival at the previous call; for virtual replicas, the base of their time
    WIRE_SEEN = 15  # the time in WIRE that is already subtracted from IN_CALL
    WIDENED = 16  # when the bounds of clocks were last widened
    OWN = 17  # 6 fields: time in each phase since the start
    PEER = 23  # 3 fields, as in Row from PEER on
    APART = 26  # as in Row
