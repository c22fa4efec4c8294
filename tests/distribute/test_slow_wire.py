"""A host behind a slow network is told, with what it costs."""

import json
import sys
from pathlib import Path

import jobs
import numpy as np
import pytest

from benchmarks.namespaces import Unavailable, relayed
from distopt.collectives import Phase
from distopt.collectives.slow_wire import slow_wire

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parent / "wire_program.py"
STEPS, SIZE = 20, 250_000
FAST, SLOW = "20e6", "3e6"


def named(nodes, waits, late=0.0):
    """Who is named, if replicas have waited for nodes for so many seconds each, row by row."""
    waits = np.array(waits, float)
    rows = np.stack([waits.argmax(1), waits.max(1), waits.sum(1)], axis=1)
    spent = np.zeros((len(nodes), 6))
    spent[:, Phase.WIRE] = 1.1 * waits.sum(1)
    found = slow_wire(np.array(nodes), rows, spent, late)
    if found is None:
        return None
    json.dumps(found.__dict__)
    assert found.seconds == pytest.approx(1.1 * waits.sum(1).mean() + late)
    return (found.node, found.replicas, found.to) if found.clear else found.short


def test_who_is_named():
    nodes = [0, 0, 1, 1, 2, 2]
    # Node 1 sends slowly, receives slowly, or both; or all are alike.
    out = [[0, 1, 0.1], [0, 1, 0.1], [0, 0, 0], [0, 0, 0], [0.1, 1, 0], [0, 1, 0]]
    into = [[0, 0, 0]] * 2 + [[1, 0, 1]] * 2 + [[0, 0, 0.0]] * 2
    assert named(nodes, out) == named(nodes, into) == (1, (2, 3), None)
    assert named(nodes, np.add(out, into)) == (1, (2, 3), None)
    assert named(nodes, [[0, 1, 1]] * 2 + [[1, 0, 1]] * 2 + [[1, 1, 0]] * 2) == "between nodes"
    # As measured: three hosts that are alike; and the last one is slow. The second one waits in both.
    assert named([0, 1, 2], [[0, 1.47, 0.03], [0.03, 0, 0.92], [0.06, 0.15, 0]]) == "between nodes"
    assert named([0, 1, 2], [[0, 0.24, 0.02], [0.05, 0, 3.54], [0.05, 0.18, 0]]) == (2, (2,), None)
    # On another machine, where all wait for all.
    assert named([0, 1, 2], [[0, 0.43, 0.11], [0.19, 0, 0.31], [0.13, 0.22, 0]]) == "between nodes"
    assert named([0, 1, 2], [[0, 0.13, 2.37], [1.09, 0, 3.64], [1.46, 1.58, 0]]) == (2, (2,), None)
    assert named([0, 1], [[0, 1], [0.1, 0]], late=0.5) == (1, (1,), 0)
    assert named([0, 1], [[0, 0.7], [1, 0]]) == (0, (0,), 1)
    assert named([0, 1], [[0, 1], [0.9, 0]]) == named([0, 1], [[0, 0.9], [1, 0]]) == "nodes 0 and 1"
    assert named([0, 1], [[0, 0], [0, 0]]) is None
    assert named([0, 0], [[1], [1]]) is None


def train(hosts, count):
    """Trains over the hosts; returns what the ledger says, and what is said at the end."""
    command = [*hosts.prefix(count, 1), sys.executable, PROGRAM, STEPS, SIZE]
    done = jobs.run(command, **hosts.env, PYTHONPATH=str(ROOT))
    assert done.code == 0, done.err
    return json.loads(done.out), done.err


@pytest.mark.launches
@pytest.mark.slow
@pytest.mark.parametrize(("count", "late"), [(2, 1), (3, 2)])
def test_a_host_behind_a_slow_network(count, late):
    pytest.importorskip("mpi4py")
    try:
        with relayed(count) as hosts:
            hosts.say(f"all rate {FAST}")
            fast, _ = train(hosts, count)
            hosts.say(f"{late} rate {SLOW}")
            slow, said = train(hosts, count)
    except Unavailable as reason:
        pytest.skip(str(reason))
    wire = slow["wire"]
    assert (wire["node"], wire["replicas"], wire["to"]) == (late, [late], 0 if count == 2 else None)
    assert f"(node {late}, wire)" in slow["short"]
    assert f"node {late} (replica {late})" in said
    # What the slow network costs: waits for messages, and for those that come late because of them.
    lost = [np.mean(run["spent"]["wire"]) + np.mean(run["spent"]["waiting"]) for run in (slow, fast)]
    assert lost[0] - lost[1] == pytest.approx(slow["took"] - fast["took"], rel=0.2)
    # Messages of equal hosts are waited for as well.
    before = np.mean(fast["spent"]["wire"]) + (1 - 1 / count) * np.sum(fast["cost"]["wire"])
    assert wire["seconds"] - before == pytest.approx(slow["took"] - fast["took"], rel=0.2)
