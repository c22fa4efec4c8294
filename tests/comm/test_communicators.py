"""Every communicator moves bytes as its interface says; the ones of several nodes stand in test_layouts."""

import inspect
import subprocess
import sys
import threading

import numpy as np
import pytest

from distopt.collectives import all_reduce
from distopt.comm import HEADER_BYTES, Communicator, TurnScheduler, in_process_world, solo_world
from distopt.distribute.virtual import run_threads

DTYPES = ["float16", "float32", "float64", "int64", "bool", "complex64"]


def on(size, program):
    """``program(communicator)`` on each of ``size`` replicas; with 1, alone."""
    return in_worlds(size, lambda world: program(world.comm))


def in_worlds(size, program):
    """``program(world)`` on each of ``size`` replicas; with 1, alone."""
    if size == 1:
        return [program(solo_world())]
    scheduler = TurnScheduler(size)
    return run_threads(scheduler, lambda i: program(in_process_world(scheduler, i)))


sizes = pytest.mark.parametrize("size", [1, 2, 3, 5])


def own(comm, shape=(3, 2), dtype="float32"):
    return np.full(shape, comm.rank + 1, dtype)


@sizes
def test_numbers(size):
    assert on(size, lambda c: (c.rank, c.size)) == [(r, size) for r in range(size)]
    assert in_worlds(size, lambda w: (w.node.size, w.cross.size)) == [(size, 1)] * size
    assert in_worlds(size, lambda w: (w.local.rank, w.local.size)) == [(r, size) for r in range(size)]


@sizes
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_gather(size, dtype):
    for rows in on(size, lambda c: c.all_gather(own(c, dtype=dtype))):
        assert [row.dtype.name for row in rows] == [dtype] * size
        assert [row.tolist() for row in rows] == [np.full((3, 2), r + 1, dtype).tolist() for r in range(size)]


@sizes
def test_all_to_all_of_unequal_parts(size):
    def program(comm):
        return comm.all_to_all([np.full(d + 1, 10 * comm.rank + d) for d in range(comm.size)])

    for d, received in enumerate(on(size, program)):
        assert [r.tolist() for r in received] == [[10 * source + d] * (d + 1) for source in range(size)]


@sizes
def test_broadcast_from_each(size):
    for root in range(size):
        got = on(size, lambda c, root=root: c.broadcast(own(c, shape=(4,)), root).tolist())
        assert got == [[root + 1.0] * 4] * size


@sizes
def test_bytes_of_any_length(size):
    got = on(size, lambda c: c.gather_bytes(bytes([c.rank]) * 3 * c.rank))
    assert got == [[bytes([r]) * 3 * r for r in range(size)]] * size


@sizes
def test_headers(size):
    got = on(size, lambda c: c.exchange(bytes([c.rank]) * HEADER_BYTES))
    assert got == [[bytes([r]) * HEADER_BYTES for r in range(size)]] * size


@sizes
def test_what_was_brought_may_be_changed_when_the_call_returns(size):
    def program(comm):
        mine, parts = own(comm, (4,)), [own(comm, (2,)) for _ in range(comm.size)]
        gathered = comm.all_gather(mine) if comm.size > 1 else [mine.copy()]
        mine[:] = 99
        exchanged = comm.all_to_all(parts) if comm.size > 1 else [parts[0].copy()]
        for part in parts:
            part[:] = 99
        comm.barrier()
        return max(float(np.max(a)) for a in [*gathered, *exchanged])

    assert on(size, program) == [float(size)] * size


@sizes
def test_shared_blocks_are_seen_by_all(size):
    def program(world):
        comm = world.comm
        block = world.node.shared_block(64)
        fresh = not block.bytes.any()
        comm.barrier()
        block.bytes[comm.rank] = comm.rank + 1
        comm.barrier()
        return fresh, block.bytes[: comm.size].tolist()

    assert in_worlds(size, program) == [(True, list(range(1, size + 1)))] * size


@sizes
def test_what_is_run_once_a_process_gets_all_contributions_and_gives_all_its_result(size):
    runs = []

    def program(world):
        return world.local.run_once(world.comm.rank, lambda ranks: runs.append(ranks) or sum(ranks))

    assert in_worlds(size, program) == [sum(range(size))] * size
    assert runs == [list(range(size))]


@sizes
@pytest.mark.parametrize("length", [0, 1, 63, 64 * 5, 1000, (1 << 20) + 7])
def test_all_reduce_in_tree_order(size, length):
    generator = np.random.default_rng(length)
    rows = [generator.normal(size=length).astype("f4") for _ in range(size)]
    want = rows
    while len(want) > 1:
        want = [np.add(*want[i : i + 2]) if i + 1 < len(want) else want[i] for i in range(0, len(want), 2)]
    got = on(size, lambda c: all_reduce(c, rows[c.rank], "sum"))
    assert {g.tobytes() for g in got} == {want[0].tobytes()}
    assert all(g is not rows[0] for g in got)
    for op, extreme in (("min", np.minimum), ("max", np.maximum)):
        got = on(size, lambda c, op=op: all_reduce(c, rows[c.rank], op))
        assert {g.tobytes() for g in got} == {extreme.reduce(rows).tobytes()}


def test_every_communicator_is_known_here():
    from distopt.comm import inprocess, mpi, solo

    found = {
        name
        for module in (inprocess, mpi, solo)
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and Communicator in getattr(kind, "__mro__", ())[1:]
    }
    assert found == {
        "NodeCommunicator",
        "SoloCommunicator",
        "InProcessCommunicator",
        "InProcessNode",
        "InProcessCross",
        "MPICommunicator",
        "MPINodeCommunicator",
    }


def test_alone_abort_ends_the_process():
    code = "from distopt.comm import solo_world; solo_world().abort(3)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 3


def test_one_thread_runs_at_a_time_in_the_order_of_numbers():
    trace, running = [], []

    def program(comm):
        for step in range(3):
            running.append(comm.rank)
            trace.append((step, comm.rank))
            assert len(running) == 1
            running.pop()
            comm.barrier()

    on(4, program)
    assert trace == [(step, rank) for step in range(3) for rank in range(4)]
    assert not [t for t in threading.enumerate() if t.name.startswith("replica-")]
