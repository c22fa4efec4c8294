"""The compiled functions that write the ledger: :func:`arrive` before and :func:`settle` after each header.

All numbers are int64. All times are in nanoseconds of CLOCK_MONOTONIC, which is the same for all processes of
a machine. A replica's state (``Mine``) is private memory; the rows are in the node's shared memory.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from distopt.collectives.ledger_layout import (
    CLOCK_ITEMS,
    PHASES,
    ROW_ITEMS,
    TOTAL_ITEMS,
    Clock,
    Mine,
    Row,
    Total,
)
from distopt.collectives.raw_memory import array_at, fence, inlined

__all__ = ["account", "arrive", "settle"]

_MONOTONIC = 1
_I64, _I32 = ir.IntType(64), ir.IntType(32)
#: The enums as plain ints, which Numba compiles as constants.
_RING, _REPLICAS, _LENGTH, _RANK, _TOTALS, _CLOCKS, _VIRTUAL = (
    int(m) for m in (Mine.RING, Mine.REPLICAS, Mine.LENGTH, Mine.RANK, Mine.TOTALS, Mine.CLOCKS, Mine.VIRTUAL)
)
_PHASE, _MARK, _INSIDE, _ENDED, _MET, _BEGUN, _ARRIVAL = (
    int(m) for m in (Mine.PHASE, Mine.MARK, Mine.INSIDE, Mine.ENDED, Mine.MET, Mine.BEGUN, Mine.ARRIVAL)
)
_ACC, _WIRE_SEEN, _BASE, _WIDENED = (int(m) for m in (Mine.OWN, Mine.WIRE_SEEN, Mine.BASE, Mine.WIDENED))
_PEER, _R_PEER, _R_APART, _EXTRA = int(Mine.PEER), int(Row.PEER), int(Row.APART), ROW_ITEMS - int(Row.PEER)
_OWN, _INPUT, _SAVING, _WIRE, _IN_CALL, _WAITING = range(6)
_R_CALL, _R_STEP, _R_ARRIVAL, _R_BEGUN, _R_ACC, _R_MET, _R_BEFORE = (
    int(r) for r in (Row.CALL, Row.STEP, Row.ARRIVAL, Row.BEGUN, Row.OWN, Row.MET, Row.MET_BEFORE)
)
_T_CALLS, _T_STEPS, _T_LAST, _T_COST = (int(t) for t in (Total.CALLS, Total.STEPS, Total.LAST, Total.COST))
_C_HERE, _C_LOW, _C_HIGH = (int(c) for c in (Clock.HERE, Clock.LOW, Clock.HIGH))
_ITEMS, _TOTAL_ITEMS, _CLOCK_ITEMS, _CAUSES = ROW_ITEMS, TOTAL_ITEMS, CLOCK_ITEMS, len(PHASES) - 1
#: Items of a replica's state. Every 1024 calls the bounds of clocks widen by 2**-14 of the time passed.
_MINE, _WIDEN_EVERY, _DRIFT_SHIFT = 32, 1023, 14


@intrinsic
def _now(typingctx: Any = None) -> Any:  # noqa: ARG001
    """The time in nanoseconds of CLOCK_MONOTONIC, without heap allocation."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        pair = ir.ArrayType(_I64, 2)
        with builder.goto_entry_block():
            timespec = builder.alloca(pair)
        kind = ir.FunctionType(_I32, [_I32, pair.as_pointer()])
        clock = builder.module.globals.get("clock_gettime")
        if clock is None:
            clock = ir.Function(builder.module, kind, "clock_gettime")
        builder.call(clock, [ir.Constant(_I32, _MONOTONIC), timespec])
        zero = ir.Constant(_I32, 0)
        seconds = builder.load(builder.gep(timespec, [zero, zero]))
        rest = builder.load(builder.gep(timespec, [zero, ir.Constant(_I32, 1)]))
        return builder.add(builder.mul(seconds, ir.Constant(_I64, 1_000_000_000)), rest)

    return types.int64(), codegen


@inlined
def _account(mine, now):  # type: ignore[no-untyped-def]
    """Adds the time since the last mark to its phase."""
    start, phase = mine[_MARK], mine[_PHASE]
    if mine[_INSIDE]:
        if mine[_ENDED] > start:  # the call has ended
            mine[_ACC + _IN_CALL] += mine[_ENDED] - start
            start = mine[_ENDED]
            mine[_INSIDE] = 0
            mine[_BEGUN] = start
        elif phase == _OWN:  # another header of the same call
            phase = _IN_CALL
    mine[_ACC + phase] += max(now - start, 0)
    travelled = min(mine[_ACC + _WIRE] - mine[_WIRE_SEEN], mine[_ACC + _IN_CALL])
    if travelled > 0:  # waits for messages within the call, measured by PeerWaits, count as WIRE only
        mine[_ACC + _IN_CALL] -= travelled
        mine[_WIRE_SEEN] += travelled
    mine[_MARK] = now


@inlined
def account(address, phase):  # type: ignore[no-untyped-def]
    """Starts another phase of this replica.

    Args:
        address: the address of its state, see ``Mine``.
        phase: a ``Phase``.
    """
    mine = array_at(address, _MINE, types.int64)
    _account(mine, _now())
    mine[_PHASE] = phase


@inlined
def arrive(address, call, step):  # type: ignore[no-untyped-def]
    """Writes this replica's row when it arrives at a header, before it waits for the others.

    Args:
        address: the address of its state, see ``Mine``.
        call: the number of the collective call.
        step: how many optimizer steps it has begun.
    """
    mine = array_at(address, _MINE, types.int64)
    now: int = _now()
    _account(mine, now)
    if mine[_VIRTUAL]:  # virtual time: as if the replicas of this process ran at the same time
        now = mine[_BASE] + mine[_ACC + _OWN] + mine[_ACC + _INPUT] + mine[_ACC + _SAVING]
    mine[_ARRIVAL] = now
    place = (call % mine[_LENGTH]) * mine[_REPLICAS] + mine[_RANK]
    row = array_at(mine[_RING] + place * _ITEMS * 8, _ITEMS, types.int64)
    row[_R_CALL] = 0
    fence()
    row[_R_STEP], row[_R_ARRIVAL], row[_R_BEGUN] = step, now, mine[_BEGUN]
    row[_R_MET], row[_R_BEFORE] = 0, mine[_MET]
    for phase in range(6):
        row[_R_ACC + phase] = mine[_ACC + phase]
    for k in range(_EXTRA):
        row[_R_PEER + k] = mine[_PEER + k]
    fence()
    row[_R_CALL] = call


@inlined
def _widen(clocks, replicas, by):  # type: ignore[no-untyped-def]
    """Widens the bounds of all clocks by ``by`` nanoseconds, because clocks drift."""
    for r in range(replicas):
        clocks[r * _CLOCK_ITEMS + _C_LOW] -= by
        clocks[r * _CLOCK_ITEMS + _C_HIGH] += by


@inlined
def _narrow(clocks, r, least, most):  # type: ignore[no-untyped-def]
    """Narrows the bounds of replica r's clock: it is ahead by ``least`` to ``most`` nanoseconds."""
    low, high = r * _CLOCK_ITEMS + _C_LOW, r * _CLOCK_ITEMS + _C_HIGH
    clocks[low] = max(clocks[low], least)
    clocks[high] = min(clocks[high], most)
    if clocks[low] > clocks[high]:  # the clock has jumped
        clocks[low], clocks[high] = least, max(most, least)


@inlined
def _copy_rows(mine, clocks, received, stride, call, now):  # type: ignore[no-untyped-def]
    """Copies the rows received from other nodes to the ring, in the time of this node's clock."""
    replicas = mine[_REPLICAS]
    if call & _WIDEN_EVERY == 0:
        _widen(clocks, replicas, (now - mine[_WIDENED]) >> _DRIFT_SHIFT)
        mine[_WIDENED] = now
    begin = mine[_RING] + (call % mine[_LENGTH]) * replicas * _ITEMS * 8
    for r in range(replicas):
        if clocks[r * _CLOCK_ITEMS + _C_HERE]:
            continue
        sent = array_at(received + r * stride, _ITEMS, types.int64)
        row = array_at(begin + r * _ITEMS * 8, _ITEMS, types.int64)
        if mine[_VIRTUAL]:  # virtual time is the same on all replicas
            for k in range(1, _ITEMS):
                row[k] = sent[k]
            row[_R_CALL] = call
            continue
        # Replica r arrived before this replica saw all arrive. At the previous call, it saw all arrive after
        # this replica had arrived.
        most = sent[_R_BEFORE] - mine[_BASE] if sent[_R_BEFORE] and mine[_BASE] else 1 << 62
        _narrow(clocks, r, sent[_R_ARRIVAL] - now, most)
        ahead = (clocks[r * _CLOCK_ITEMS + _C_LOW] + clocks[r * _CLOCK_ITEMS + _C_HIGH]) // 2
        if clocks[r * _CLOCK_ITEMS + _C_HIGH] > 1 << 61:
            ahead = clocks[r * _CLOCK_ITEMS + _C_LOW]
        for k in range(1, _ITEMS):
            row[k] = sent[k]
        row[_R_ARRIVAL] -= ahead
        row[_R_BEGUN] -= ahead
        row[_R_CALL] = call


@inlined
def _cause(now_rows, before_rows, replicas, last, causes):  # type: ignore[no-untyped-def]
    """The phase that made replica ``last`` late.

    This is the phase in which its time since the previous call exceeds the others' average most.
    """
    found, most = _OWN, -1.0
    for phase in range(causes):
        own = 0.0
        others = 0.0
        for r in range(replicas):
            k = r * _ITEMS + _R_ACC + phase
            spent = float(now_rows[k] - before_rows[k])
            if r == last:
                own = spent
            else:
                others += spent
        more = own - others / (replicas - 1)
        if more > most:
            found, most = phase, more
    return found


@inlined
def _count_last(mine, rows, call, cost):  # type: ignore[no-untyped-def]
    """Adds ``cost``, the average wait of the others, to the totals of the replica that arrived last.

    The time that a replica waited in calls within its node since the previous call does not make it late.
    """
    replicas = mine[_REPLICAS]
    size = replicas * _ITEMS
    before = array_at(mine[_RING] + ((call - 1) % mine[_LENGTH]) * size * 8, size, types.int64)
    known = True
    for r in range(replicas):
        known = known and before[r * _ITEMS + _R_CALL] == call - 1
    if not known:  # the first call: a replica that started late is no straggler
        return
    last, latest = 0, 0
    for r in range(replicas):
        apart = rows[r * _ITEMS + _R_APART] - before[r * _ITEMS + _R_APART]
        came = rows[r * _ITEMS + _R_ARRIVAL] - apart
        if r == 0 or came > latest:
            last, latest = r, came
    # Virtual replicas execute calls one after the other, so time in calls is no cause.
    phase = _cause(rows, before, replicas, last, _WIRE if mine[_VIRTUAL] else _CAUSES)
    total = array_at(mine[_TOTALS] + last * _TOTAL_ITEMS * 8, _TOTAL_ITEMS, types.int64)
    total[_T_CALLS] += 1
    if rows[last * _ITEMS + _R_STEP] != before[last * _ITEMS + _R_STEP]:
        total[_T_STEPS] += 1
    total[_T_LAST + phase] += 1
    total[_T_COST + phase] += int(cost)


@inlined
def settle(address, call, received, stride):  # type: ignore[no-untyped-def]
    """After the exchange of a header: records this replica's wait, and which replica arrived last.

    Args:
        address: the address of this replica's state, see ``Mine``.
        call: the number of the collective call.
        received: with several nodes, the address of the rows of all replicas; else 0.
        stride: the bytes from one of these rows to the next.
    """
    mine = array_at(address, _MINE, types.int64)
    now: int = _now()
    replicas, arrival = mine[_REPLICAS], mine[_ARRIVAL]
    if received:
        clocks = array_at(mine[_CLOCKS], replicas * _CLOCK_ITEMS, types.int64)
        _copy_rows(mine, clocks, received, stride, call, now)
    size = replicas * _ITEMS
    rows = array_at(mine[_RING] + (call % mine[_LENGTH]) * size * 8, size, types.int64)
    latest, total, count = arrival, 0.0, 0
    for r in range(replicas):
        if rows[r * _ITEMS + _R_CALL] == call:
            came = rows[r * _ITEMS + _R_ARRIVAL]
            total += came - arrival
            count += 1
            latest = max(latest, came)
    if mine[_VIRTUAL]:
        mine[_ACC + _WAITING] += latest - arrival
        mine[_BASE] = latest - mine[_ACC + _OWN] - mine[_ACC + _INPUT] - mine[_ACC + _SAVING]
        mine[_MARK] = now
    else:
        together = min(latest, now)
        mine[_ACC + _WAITING] += together - arrival
        if received:  # after the last arrival, the exchange only waits for the network
            mine[_ACC + _WIRE] += now - together
            mine[_WIRE_SEEN] += now - together
            together = now
        mine[_MARK] = together
        mine[_BASE] = arrival
    mine[_MET], mine[_INSIDE] = now, 1
    rows[mine[_RANK] * _ITEMS + _R_MET] = now
    if mine[_TOTALS] and count == replicas:
        cost = (latest - arrival) - (total - (latest - arrival)) / (replicas - 1)
        _count_last(mine, rows, call, cost)
