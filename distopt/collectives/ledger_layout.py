"""Where the numbers of the ledger lie: what its writers, in compiled code, and its readers agree on.

All numbers are int64, little endian; all times are nanoseconds.
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
#: Calls in the ring, and bytes that it takes at most, unless two calls alone need more.
_CALLS, _RING_BYTES = 4096, 16 << 20


def ring_calls(replicas: int) -> int:
    """How many calls the ring of a job has room for; the rows of two are needed to tell who came last."""
    return max(min(_CALLS, _RING_BYTES // (replicas * ROW_ITEMS * 8)), 2)


class Phase(IntEnum):
    """What a replica spends its time in."""

    OWN_CODE = 0
    INPUT = 1
    SAVING = 2
    WIRE = 3
    IN_CALL = 4
    WAITING = 5


#: In words; waiting is for others to come to a call. The others can be why a replica comes last.
PHASES = ("own code", "input", "saving", "wire", "sum and update", "waiting")
CAUSES = PHASES[:5]


class Row(IntEnum):
    """A replica at a header."""

    CALL = 0  # its number; written last, 0 while the row is being written
    STEP = 1  # how many optimizer steps the replica has begun
    ARRIVAL = 2  # when it came
    BEGUN = 3  # when it left the call before
    OWN = 4  # and on: time in each phase since the start, as of the arrival
    MET = 10  # when it saw all others there; 0 before that, and on other nodes
    MET_BEFORE = 11  # the same of the call before, by the replica's own clock
    PEER = 12  # the node whose messages it has waited for longest since the start
    PEER_WAITED = 13  # and for how long
    PEERS_WAITED = 14  # the same for all nodes together
    APART = 15  # how long it has waited in calls that not all replicas make


ROW_FIELDS = (
    *("call", "step", "arrival", "begun", "own_code", "input", "saving", "wire", "in_call", "waiting"),
    *("met", "met_before", "peer", "peer_waited", "peers_waited", "apart"),
)


class Total(IntEnum):
    """How often a replica came last, since the start."""

    CALLS = 0
    STEPS = 1  # of the first calls of steps
    LAST = 2  # and on: by cause
    COST = 7  # and on: how long the others have waited for it, on average, by cause


TOTAL_FIELDS = (
    *("last_calls", "last_steps"),
    *("last_own_code", "last_input", "last_saving", "last_wire", "last_in_call"),
    *("cost_own_code", "cost_input", "cost_saving", "cost_wire", "cost_in_call"),
    *("reserved0", "reserved1", "reserved2", "reserved3"),
)


class Clock(IntEnum):
    """What is known of a replica's clock."""

    HERE = 0  # 1 if it is the own one
    LOW = 1  # it is ahead of the own one by so much at least
    HIGH = 2  # and at most


class Mine(IntEnum):
    """A replica's own state."""

    RING = 0  # addresses of the rows, of the totals (0: others write them), of the clocks
    TOTALS = 1
    CLOCKS = 2
    REPLICAS = 3
    LENGTH = 4  # calls in the ring
    RANK = 5
    VIRTUAL = 6  # 1 for replicas of one process, which take turns
    PHASE = 7  # the present phase: own code, input or saving
    MARK = 8  # all time until then has been added up
    INSIDE = 9  # 1 from a meeting until the end of its call
    ENDED = 10  # when the last call ended
    MET = 11  # when all were there last
    BEGUN = 12
    ARRIVAL = 13
    BASE = 14  # the arrival at the call before; of virtual replicas the clock's zero
    WIRE_SEEN = 15  # of the time on the wire what has been taken out of that in calls
    WIDENED = 16  # when the bounds of clocks were widened last
    OWN = 17  # and on: time in each phase since the start
    PEER = 23  # and on: what a row has from there on
    APART = 26
