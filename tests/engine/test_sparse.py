"""Sparse gradients of several replicas: rows or whole arrays may travel, the sums are the same bits."""

import numpy as np
import pytest

from distopt.core import IndexedSlices
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.engine import sparse

HEIGHT, WIDTH = 11, 3


def gradient(replica):
    rng = np.random.default_rng(replica)
    rows = int(rng.integers(0, 9))
    return IndexedSlices(rng.normal(size=(rows, WIDTH)).astype(np.float32), rng.integers(0, HEIGHT, rows))


@pytest.mark.parametrize("replicas", [2, 3, 4, 7])
def test_rows_and_whole_arrays_give_the_same_bits(monkeypatch, replicas):
    def program():
        context = get_replica_context()
        return sparse.reduced(context.comm, gradient(context.replica_id_in_sync_group), HEIGHT)

    found = []
    for density in (0.0, 1e9):
        monkeypatch.setattr(sparse, "DENSITY", density)
        found.append(VirtualStrategy(replicas).run(program))
    by_arrays, by_rows = found
    for a, b in zip(by_arrays, by_rows, strict=True):
        for x, y in zip(a.values, b.values, strict=True):
            np.testing.assert_array_equal(x, y)

    total = np.zeros((HEIGHT, WIDTH))
    touched = set()
    for replica in range(replicas):
        g = gradient(replica)
        np.add.at(total, g.indices, np.float64(g.values))
        touched |= set(g.indices.tolist())
    rows, indices = by_rows[0].values[0], by_rows[1].values[0]
    assert indices.tolist() == sorted(touched)
    np.testing.assert_allclose(rows, total[indices], rtol=1e-5, atol=1e-6)
