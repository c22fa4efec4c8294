"""Messages longer than MPI counts go in parts; here the parts are short, so that every message is long."""

import numpy as np
import pytest

from distopt import Variable, optimizers
from distopt.comm import mpi
from distopt.distribute import get_replica_context


@pytest.fixture(params=[1, 24, 100])
def comm(request, monkeypatch):
    """The communicator of the job, whose messages have so many bytes at most."""
    monkeypatch.setattr(mpi, "MESSAGE", request.param)
    return get_replica_context().comm


def own(rank, length, dtype=np.int64):
    return np.arange(length, dtype=dtype) + 100 * rank


@pytest.mark.parametrize("length", [0, 1, 13, 50])
def test_all_gather(comm, length):
    rows = comm.all_gather(own(comm.rank, length).reshape(length, 1))
    assert [row.tolist() for row in rows] == [
        own(r, length).reshape(-1, 1).tolist() for r in range(comm.size)
    ]


@pytest.mark.parametrize("length", [0, 1, 13, 50])
def test_all_to_all(comm, length):
    received = comm.all_to_all([own(comm.rank, length + d) for d in range(comm.size)])
    assert [row.tolist() for row in received] == [
        own(s, length + comm.rank).tolist() for s in range(comm.size)
    ]


@pytest.mark.parametrize("length", [0, 1, 13, 50])
def test_broadcast(comm, length):
    for root in range(comm.size):
        got = comm.broadcast(own(comm.rank, length, np.float32), root)
        assert got.tolist() == own(root, length).tolist()


def test_a_step(comm):
    """What joins, and what is summed, travels by the same messages."""
    v = Variable(np.full(301, comm.rank, np.float32))  # the first replica's values count
    optimizer = optimizers.SGD(1.0, momentum=0.5)
    for _ in range(2):
        optimizer.apply_gradients([(np.arange(301, dtype=np.float32), v)])
    assert v.numpy().tolist() == (-2.5 * comm.size * np.arange(301)).tolist()
