"""The executor: threads that wait at a shared barrier as processes do, one replica, and several nodes."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from distopt.collectives import ShardReduce, addresses_of, reduce_rows, shared_memory, tree_pairs
from distopt.comm import LocalGroup, SoloCommunicator, World
from distopt.comm.memory import thread_block
from distopt.comm.shared_barrier import SharedBarrier
from distopt.engine import kernels, norms
from distopt.engine.batch import GradientBatch
from distopt.engine.clip import Clip, clip_norm, clip_value, global_scale
from distopt.engine.epilogue import epilogue
from distopt.engine.executor import Executor, Step
from distopt.engine.norm_board import NormBoard, pieces_of
from distopt.optimizers import adam, rmsprop, sgd
from distopt.settings import Settings
from tests.engine.test_kernels import made_up

#: One for each number of slots.
RULES = [sgd.PLAIN, sgd.MOMENTUM, adam.ADAM, rmsprop.CENTERED_MOMENTUM]
SIZES = (5_000, 0, 1, 300_000, 7, 70_000)
WAITING = 60
partition = sys.modules["distopt.collectives.partition"]


class Thread(SoloCommunicator):
    """One of several threads that wait for each other as the processes of a node do."""

    def __init__(self, rank, size, counters, memory):
        self.rank, self.size, self._memory = rank, size, memory
        self._shared = SharedBarrier(counters, rank, size)
        self.waits = self._blocks = 0

    def gather_bytes(self, data):
        return [data] * self.size

    def barrier(self):
        self._shared.wait(None, self._until)

    def run(self, code, parts):
        self._shared.run(code, parts, self._until)

    def shared_block(self, nbytes, views=False):
        self._blocks += 1
        return self._memory.setdefault(self._blocks, thread_block(nbytes))

    def _until(self, done):
        end = time.monotonic() + WAITING
        self.waits += 1
        while not done():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.001)


def threads(size):
    counters, memory = np.zeros(SharedBarrier.room(size), np.uint8), {}
    return [Thread(rank, size, counters, memory) for rank in range(size)]


def clipped_by_norms(gradients, clip):
    """Each variable's gradient clipped, from the definitions."""
    totals = [norms.sum_of_pieces([norms.sums_of_squares(g)]) for g in gradients]
    if clip.norm is not None:
        return [clip_norm(g, total, clip.norm) for g, total in zip(gradients, totals, strict=True)]
    squares = norms.sum_of_pieces([norms.sums_of_squares(g) for g in gradients])
    return [g * global_scale(squares, clip.global_norm, g.dtype) for g in gradients]


def bounded(after, total):
    """A sum after division and the clip of its elements, from the definitions."""
    divisor, clip = after
    total = total if divisor is None else total / total.dtype.type(divisor)
    return total if clip is None or clip.value is None else clip_value(total, clip.value)


def train(rule, dtype, replicas, after=(None, None), steps=3, late=0.0, feed=None):
    """The state after some steps: computed by executors, and the slow way.

    ``feed(executor)`` tells before which blocks to stop.
    """
    pieces = [made_up(rule, size, dtype, seed) for seed, size in enumerate(SIZES)]
    state = [
        np.concatenate(column) for column in zip(*((w, *slots) for w, _, slots, _ in pieces), strict=True)
    ]
    wanted, coefficients = [array.copy() for array in state], pieces[0][3]
    starts = np.cumsum([0, *SIZES[:-1]])
    places = [[(array, int(start)) for array in state] for start in starts]
    rng = np.random.default_rng(1)
    gradients = [[rng.normal(size=n).astype(dtype) for n in SIZES] for _ in range(replicas)]
    before = [[g.copy() for g in own] for own in gradients]
    everyone = threads(replicas)

    def replica(node):
        world = World(node, node, SoloCommunicator(), LocalGroup(), None, None)
        reduce = ShardReduce(world, Settings())
        executor = Executor(rule, np.dtype(dtype), SIZES, places, reduce)
        then, own = epilogue(*after), gradients[node.rank]
        board = (
            NormBoard(SIZES, node, shared_memory(node, 8 * pieces_of(SIZES))) if then.needs_norms else None
        )
        batch = GradientBatch((), tuple(own), tuple(own), addresses_of(own))
        for _ in range(steps):
            if node.rank == 1:
                time.sleep(late)
            reduce.staging.half = 0
            step = Step(executor, batch, coefficients, then, board=board)
            for stop in feed(executor) if feed else []:
                step.feed(stop)
            step.feed(executor.blocks)
            step.finish(None if board is None else board.scales(then.clip, np.dtype(dtype)))
            node.barrier()

    with ThreadPoolExecutor(replicas) as pool:
        list(pool.map(replica, everyone))
    total = np.empty_like(wanted[0])
    reduce_rows([np.concatenate(own) for own in gradients], total, np.add, tree_pairs(replicas))
    for _ in range(steps):
        summed = bounded(after, total)
        if after[1] is not None and after[1].needs_norms:
            summed = np.concatenate(clipped_by_norms(np.split(summed, starts[1:]), after[1]))
        kernels.dense(rule, wanted[0], summed, tuple(wanted[1:]), coefficients)
    for own, kept in zip(gradients, before, strict=True):
        assert all(np.array_equal(g, k) for g, k in zip(own, kept, strict=True))
    assert [a.tobytes() for a in state] == [a.tobytes() for a in wanted]
    return everyone


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Some blocks, not one."""
    monkeypatch.setattr(partition, "BLOCK", 1 << 16)
    partition.partition.cache_clear()
    yield
    partition.partition.cache_clear()


@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_a_step_is_the_sum_in_tree_order_and_the_rule(rule, replicas):
    train(rule, "f4", replicas)


@pytest.mark.parametrize("replicas", [pytest.param(1, marks=pytest.mark.slow), 2, 5])
def test_means_and_bounds_in_double_precision(replicas):
    train(adam.ADAM, "f8", replicas, (3, Clip(value=0.2)))


@pytest.mark.parametrize("dtype", ["f4", pytest.param("f8", marks=pytest.mark.slow)])
@pytest.mark.parametrize("replicas", [1, 2, 5])
@pytest.mark.parametrize(
    "clip",
    [
        Clip(norm=0.7),
        Clip(norm=1e9),
        Clip(norm=0),
        Clip(global_norm=3.0),
        Clip(global_norm=0),
        Clip(value=0.2, norm=5.0),
    ],
    ids=str,
)
def test_clips_by_norms(clip, replicas, dtype):
    train(adam.ADAM, dtype, replicas, (None, clip))


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_clips_by_the_global_norm_with_any_number_of_slots(rule):
    train(rule, "f4", 2, (2, Clip(global_norm=1.0)))


@pytest.mark.parametrize("replicas", [1, 2, 3])
@pytest.mark.parametrize("clip", [None, Clip(global_norm=3.0)], ids=str)
def test_a_step_that_is_fed_in_parts_is_the_same(clip, replicas):
    """As gradients become final one after the other."""

    def feed(executor):
        stops = [executor.blocks_before(variable) for variable in range(len(SIZES))]
        assert stops[0] == 0
        assert 0 < stops[-1] < executor.blocks
        return stops

    train(adam.ADAM, "f4", replicas, (None, clip), feed=feed)


def test_a_late_replica_is_waited_for_outside_of_the_loop():
    first, _ = train(sgd.PLAIN, "f4", 2, late=1.0)
    assert first.waits


def test_a_barrier_runs_parts_again_where_they_had_to_wait():
    calls = []

    def code(counters, met, part, parts):
        calls.append((met, part, parts))
        return {0: 2, 2: 3, 3: 4}[part]  # waits before parts 2 and 3; there are 4

    waits = []
    barrier = SharedBarrier(np.zeros(SharedBarrier.room(1), np.uint8), 0, 1)
    barrier.wait(None, waits.append)
    barrier.run(code, 4, waits.append)
    assert calls == [(1, 0, 4), (1, 2, 4), (1, 3, 4)]
    assert len(waits) == 2
    barrier.run(lambda counters, met, part, parts: calls.append((met, part, parts)) or 1, 1, waits.append)
    assert calls[-1] == (4, 0, 1)
