"""A collective call on pytrees that is wrong on one replica is an error on all of them."""

import numpy as np
import pytest

jax = pytest.importorskip("jax")

from replicated import on_replicas, rank  # noqa: E402

import distopt.jax as dj  # noqa: E402
from distopt.errors import ReplicaFailed  # noqa: E402

pytestmark = pytest.mark.jax

TREE = {"a": np.ones(2, "f4")}
CALLS = [
    (lambda: dj.all_reduce(TREE), lambda: dj.all_reduce(TREE, "product"), ValueError),
    (lambda: dj.all_reduce(TREE), lambda: dj.all_reduce({"a": object()}), TypeError),
    (lambda: dj.all_gather(TREE), lambda: dj.all_gather(TREE, axis=1), ValueError),
    (lambda: dj.broadcast(TREE), lambda: dj.broadcast(TREE, root=2), ValueError),
]


def test_wrong_arguments_are_an_error_on_all_replicas():
    def program():
        for right, wrong, kind in CALLS:
            with pytest.raises(kind if rank() else ReplicaFailed, match=r"product|object|axis|root"):
                (wrong if rank() else right)()
        return dj.all_reduce(TREE)["a"].tolist()

    assert on_replicas(2, program) == [[2.0, 2.0]] * 2
