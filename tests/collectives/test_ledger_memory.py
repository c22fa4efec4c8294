"""The ledger takes 16 MiB a node at most, and says what it lies in."""

import json

import numpy as np
import pytest

import distopt as tf
from distopt.collectives.ledger_layout import HEAD_BYTES, MAGIC, ROW_ITEMS, TOTAL_ITEMS, ring_calls
from tests.replicated import on_replicas

MIB = 2**20


def test_the_ring_is_bounded():
    calls = {n: ring_calls(n) for n in range(1, 1001)}
    assert {calls[n] for n in range(1, 33)} == {4096}
    assert calls[1000] == 131
    for n, count in calls.items():
        assert count * n * ROW_ITEMS * 8 <= 16 * MIB < (count + 1) * n * ROW_ITEMS * 8 or count == 4096
    assert ring_calls(10**6) == 2  # who came last is told from two calls


@pytest.mark.parametrize("replicas", [1, 3])
def test_its_memory(replicas):
    def program():
        context = tf.distribute.get_replica_context()
        v = tf.Variable(np.zeros(3, np.float32))
        tf.optimizers.SGD(0.1).apply_gradients([(np.ones(3, np.float32), v)])
        return context.collective_check.ledger.snapshot()

    block = on_replicas(replicas, program)[0]
    assert len(block) == HEAD_BYTES + replicas * (TOTAL_ITEMS * 8 + 4096 * ROW_ITEMS * 8)
    head = block[:HEAD_BYTES]
    assert head.startswith(MAGIC)
    about = json.loads(head[len(MAGIC) :].rstrip(b"\0"))
    assert (about["replicas"], about["ring"], about["virtual"]) == (replicas, 4096, replicas > 1)
    rows = np.frombuffer(block[about["ring_at"] :], np.int64).reshape(4096, replicas, ROW_ITEMS)
    assert rows[:, :, 0].max(0).min() >= 1
