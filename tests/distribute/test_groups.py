"""The groups of a replica: those of its node, and one a node."""

from pathlib import Path

import jobs
import numpy as np
import pytest
from replicated import on_replicas, rank

from distopt.distribute import get_replica_context
from distopt.errors import ReplicaFailed, ReplicaMismatch

TESTS = str(Path(__file__).parents[1])
LAYOUTS = pytest.mark.parametrize(("size", "nodes"), [(1, 2), (4, 1), (4, 2), (4, 4), (6, 2)])


@pytest.fixture
def pretend(monkeypatch):
    return lambda nodes: monkeypatch.setenv("DISTOPT_NODES", str(nodes))


def calls():
    """What a replica gets from its groups."""
    context = get_replica_context()
    mine = np.random.default_rng(rank()).normal(size=40_000).astype("f4")
    on_node = np.asarray(context.node.all_reduce("sum", mine))
    part = np.array_split(on_node, context.node.size)[context.node.rank]
    total = context.node.all_gather(context.nodes.all_reduce("sum", part), axis=0)
    number = np.array([rank()])
    return {
        "places": (context.node.rank, context.node.size, context.nodes.rank, context.nodes.size),
        "node": np.asarray(context.node.all_gather(number, axis=0)).tolist(),
        "nodes": np.asarray(context.nodes.all_gather(number, axis=0)).tolist(),
        "first": int(context.node.broadcast(number, root=0)[0]),
        "last": int(context.nodes.broadcast(number, root=context.nodes.size - 1)[0]),
        "total": np.asarray(total).tobytes(),
        "all": np.asarray(context.all_reduce("sum", mine)).tobytes(),
    }


@LAYOUTS
def test_a_node_and_one_a_node(pretend, size, nodes):
    pretend(nodes)
    nodes = min(nodes, size)
    width = size // nodes
    for replica, found in enumerate(on_replicas(size, calls)):
        node, own = divmod(replica, width)
        assert found["places"] == (own, width, node, nodes)
        assert found["node"] == list(range(node * width, (node + 1) * width))
        assert found["nodes"] == list(range(own, size, width))
        assert (found["first"], found["last"]) == (node * width, size - width + own)
        if size & (size - 1) == 0:  # the sum of a node is a branch of the tree over all
            assert found["total"] == found["all"]


def test_a_node_does_not_wait_for_others(pretend):
    pretend(2)

    def program():
        context = get_replica_context()
        for _ in range(3 * (context.nodes.rank + 1)):
            context.node.all_reduce("sum", np.ones(3))
        return np.asarray(context.all_reduce("sum", 1)).item()

    assert on_replicas(4, program) == [4] * 4


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("other", ["node", "nodes", "job", "end"])
def test_different_calls_are_an_error(pretend, nodes, other):
    pretend(nodes)

    def program():
        context = get_replica_context()
        if rank() != 1:
            context.node.all_reduce("sum", np.ones(2))
            context.all_reduce("sum", 1)
        elif other == "node":
            context.node.all_gather(np.ones(2), axis=0)
        elif other == "nodes":
            context.nodes.all_reduce("sum", np.ones(2))
        elif other == "job":
            context.all_reduce("sum", np.ones(2))

    with pytest.raises(ReplicaMismatch, match=r"(?s)node.all_reduce\('sum'\)|has ended its program"):
        on_replicas(4, program)


@pytest.mark.parametrize("group", ["node", "nodes"])
def test_shapes_are_compared_in_the_group(pretend, group):
    pretend(2)

    def program(replica):
        context = get_replica_context()
        length = 3 if rank() == replica else 2
        # Other shapes on other nodes, and on other ranks of the node, are as they should be.
        length += 5 * (context.nodes.rank if group == "node" else context.node.rank)
        return getattr(context, group).all_reduce("sum", np.ones(length))

    on_replicas(4, lambda: program(replica=-1))
    with pytest.raises(ReplicaMismatch, match=rf"{group}.all_reduce\('sum'\) of float64\[3\]"):
        on_replicas(4, lambda: (program(replica=0), get_replica_context().all_reduce("sum", 1)))


def test_an_error_of_one_is_an_error_of_all(pretend):
    pretend(2)
    seen = []

    def program():
        context = get_replica_context()
        try:
            context.node.all_reduce("sum", None if rank() == 1 else 1.0)
            context.all_reduce("sum", 1)
        except (ValueError, ReplicaFailed) as error:
            seen.append(type(error).__name__)
            raise

    with pytest.raises(ValueError, match=r"node\.all_reduce\('sum'\) got None"):
        on_replicas(4, program)
    assert sorted(seen) == ["ReplicaFailed"] * 3 + ["ValueError"]


@pytest.mark.launches
@pytest.mark.slow
def test_processes_and_threads_have_the_same_groups(tmp_path):
    results = []
    for command in (jobs.mpi(4, __file__), jobs.python(*jobs.inprocess(4, Path(__file__)))):
        done = jobs.run(command, 120, DISTOPT_NODES="2", FOUND=str(tmp_path), PYTHONPATH=TESTS)
        assert done.code == 0, done.err
        results.append([(tmp_path / str(r)).read_text() for r in range(4)])
    assert results[0] == results[1]
    assert "(0, 2, 1, 2)" in results[0][2]


if __name__ == "__main__":
    import os

    (Path(os.environ["FOUND"]) / str(rank())).write_text(repr(sorted(calls().items())))
