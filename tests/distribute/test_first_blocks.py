"""Over nodes a step's first block is sent ahead of the header; if replicas disagree, nothing has happened."""

import json
import os
from pathlib import Path

import jobs
import pytest

pytestmark = pytest.mark.launches

NAMES = (
    "another call",
    "another call, for a step of many blocks",
    "a shorter block",
    "a longer block",
    "another order",
    "an argument that does not fit",
)


def work():
    """One replica's program: good steps, and between them all ways to disagree; what it has seen."""
    import numpy as np

    from distopt import IndexedSlices, Variable
    from distopt.comm.mpi import MPICommunicator
    from distopt.distribute import get_replica_context
    from distopt.optimizers import SGD

    context = get_replica_context()
    rank, size = context.replica_id_in_sync_group, context.num_replicas_in_sync
    short, long = (
        Variable(np.zeros((40, 3), "f4"), name="short"),
        Variable(np.zeros(300_000, "f4"), name="long"),
    )
    optimizer, seen = SGD(0.5), []
    plain, exchange = MPICommunicator.begin_messages, MPICommunicator.begin_exchange

    def begin_messages(self, sent, received, tag=0, came=None):
        seen.extend(["message"] * len(sent))
        return plain(self, sent, received, tag, came)

    def begin_exchange(self, header):
        arrive = exchange(self, header)
        seen.append("header")
        return lambda: [arrive(), seen.append("headers of all")][0]

    MPICommunicator.begin_messages, MPICommunicator.begin_exchange = begin_messages, begin_exchange

    def step(*variables, factor=1, sparse=False):
        pairs = [(np.full(v.shape, factor * (rank + 1), "f4"), v) for v in variables]
        if sparse:
            pairs[0] = IndexedSlices(pairs[0][0], np.arange(len(pairs[0][0]))), variables[0]
        optimizer.apply_gradients(pairs)

    def state():
        return [sorted(set(v.numpy().ravel().tolist())) for v in (short, long)]

    last, both = rank == size - 1, (short, long)
    #: The lists of variables that are in use, and what the last replica does instead of what the others do.
    disagreements = {
        "another call": ([(short,)], lambda: context.all_reduce("sum", 1) if last else step(short)),
        "another call, for a step of many blocks": (
            [(long,)], lambda: step(long) if last else context.all_reduce("sum", 1)
        ),
        "a shorter block": ([(short,), (long,)], lambda: step(short if last else long)),
        "a longer block": ([(short,), both], lambda: step(*both) if last else step(short)),
        "another order": ([both, both[::-1]], lambda: step(*both[::-1] if last else both)),
        "an argument that does not fit": (
            [(short,)],
            lambda: optimizer.apply_gradients([(np.ones(7, "f4"), short)]) if last else step(short),
        ),
    }  # fmt: skip
    found = {"errors": {}, "states": {}, "events": {}}
    for name, (used, disagree) in disagreements.items():
        for factor in (1, -1, 1, -1):  # what is met for the first time keeps its own exchange
            for variables in used:
                step(*variables, factor=factor)
        seen.clear()
        try:
            disagree()
        except Exception as error:
            found["errors"][name] = f"{type(error).__name__}: {error}"
        found["events"][name], found["states"][name] = list(seen), state()
        step(*used[0])  # nothing of what has been sent before is taken for a part of this one
        found["states"][f"{name}, and then a step"] = state()
        step(*used[0], factor=-1)
    step(*both)
    for name, options in {"dense": {}, "sparse on one": {"sparse": last}, "dense again": {}}.items():
        seen.clear()
        step(*both, **options)
        found["events"][name], found["states"][name] = list(seen), state()
    found["messages"] = int(context.shards.describe().split(", ")[1].split()[0])
    (Path(os.environ["FOUND"]) / f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    work()


@pytest.mark.parametrize(
    ("processes", "nodes"),
    [
        (3, 3),
        pytest.param(2, 2, marks=pytest.mark.slow),
        pytest.param(4, 2, marks=pytest.mark.slow),
        pytest.param(4, 4, marks=pytest.mark.slow),
        pytest.param(8, 8, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_disagreements_after_the_first_block_is_sent(tmp_path, processes, nodes):
    done = jobs.run(jobs.mpi(processes, __file__), FOUND=str(tmp_path), DISTOPT_NODES=str(nodes))
    assert done.code == 0, done.err
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(processes)]
    once = -0.5 * sum(range(1, processes + 1))
    messages = found[0]["messages"]
    for replica in found:
        states, events = replica["states"], replica["events"]
        for name in NAMES:
            assert states[name] == [[0], [0]], name
            stepped = states[f"{name}, and then a step"]
            assert [once] in stepped
            assert {x for values in stepped for x in values} <= {0, once}, name
            # All complete what some have begun, so that nothing is left on its way.
            assert events[name].count("message") == messages, name
        for turn, name in enumerate(("dense", "sparse on one", "dense again"), 2):
            assert states[name] == [[turn * once]] * 2, name
        # A step of one block: its messages, of which the first go out while headers travel.
        for name in ("dense", "dense again"):
            assert events[name].count("message") == messages
            assert events[name].count("header") == 1
            assert events[name][:2] == ["header", "message"]
    for name in NAMES:
        errors = [replica["errors"][name] for replica in found]
        if name.startswith("an argument"):
            assert errors.pop().startswith("ValueError: ")
            assert errors[0].startswith(
                f"ReplicaFailed: nothing was applied, because replica {processes - 1} "
            )
        else:
            assert errors[0].startswith("ReplicaMismatch: ")
            assert f"replica {processes - 1}: " in errors[0]
        assert errors == errors[:1] * len(errors)
