"""Who is slow, in what, and what it costs: the ledger's figures, with faults made by sleeping."""

import json
import os
import re
import sys
import time
from pathlib import Path

import jobs
import numpy as np
import pytest
from replicated import on_replicas, rank

import distopt as tf
from distopt import keras
from distopt.checkpoint import CheckpointManager
from distopt.collectives import Phase, recently_last

PROGRAM = Path(__file__).parent / "slow_replica.py"
LATE, STEPS = 0.05, 50
#: What each fault costs, and what is said of it.
COST = {
    "own code": LATE * STEPS,
    "input": LATE * STEPS,
    "saving": LATE * STEPS,
    "stopped": 1.0,
    "checkpoint": LATE * STEPS,
}


class Slow:
    """An object that takes long to save."""

    def __init__(self, seconds):
        self.seconds = seconds

    def get_state(self):
        time.sleep(self.seconds)
        return {}

    def set_state(self, state):
        pass


def in_turns(fault, steps, late):
    """A training on replicas of this process, of which the last one is late.

    Returns:
        the report and the statistics that replica 0 sees, and what each replica's steps took.
    """
    culprit = rank() == tf.distribute.get_replica_context().num_replicas_in_sync - 1
    v = tf.Variable(np.zeros(10, np.float32), name="v")
    optimizer = tf.optimizers.SGD(0.1)
    optimizer.apply_gradients([(np.ones(10, np.float32), v)])
    before = tf.report()  # what the first step has compiled is no matter here

    def batches():
        for _ in range(steps):
            time.sleep(late if culprit and fault == "input" else 0)
            yield np.ones(10, np.float32)

    took, left = [], time.monotonic()
    for gradient in tf.timed(batches()):
        time.sleep(late if culprit and fault == "own code" else 0)
        took.append(time.monotonic() - left)
        optimizer.apply_gradients([(gradient, v)])
        left = time.monotonic()
    took = np.array(tf.distribute.get_replica_context().all_gather(np.array([took]), 0))
    return tf.report().since(before), optimizer.stats(), took


@pytest.mark.parametrize("fault", ["own code", "input"])
def test_replicas_that_take_turns(fault):
    steps, late = 15, 0.05  # long beside what a busy machine takes from each replica
    found, stats, took = on_replicas(4, lambda: in_turns(fault, steps, late))[0]
    assert took[3].sum() >= steps * late
    waited = took.max(0) - took  # as if they ran at the same time
    straggler = found.straggler
    assert (straggler.replica, straggler.cause) == (3, fault)
    cost = waited[:3].mean(0)[took.argmax(0) == 3].sum()
    assert straggler.seconds == pytest.approx(cost, rel=0.2)
    assert straggler.steps >= steps - 1
    assert found.short().startswith("waits ")
    assert f"(replica 3, {fault})" in found.short()
    phase = found.to_dict()["spent"][fault]
    assert phase[3] - phase[0] == pytest.approx((took[3] - took[0]).sum(), rel=0.2)
    assert found.to_dict()["spent"]["waiting"][0] == pytest.approx(waited[0].sum(), rel=0.2)
    assert stats["iterations"] == steps + 1
    assert "take turns" in str(found)


def test_replicas_that_take_turns_on_two_nodes(monkeypatch):
    """A node's replicas are seen by the other; inner steps of LocalSGD are own work of who makes them."""
    monkeypatch.setenv("DISTOPT_NODES", "2")

    def program():
        inner = tf.optimizers.SGD(0.1, gradient_aggregator="mean")
        optimizer = tf.optimizers.LocalSGD(inner, every=4)
        pairs = [(np.ones(10, np.float32), tf.Variable(np.zeros(10, np.float32)))]
        optimizer.apply_gradients(pairs)
        before, worked, left = tf.report(), 0.0, time.monotonic()
        for _ in range(12):
            time.sleep(0.02 if rank() == 3 else 0)
            worked += time.monotonic() - left
            optimizer.apply_gradients(pairs)
            left = time.monotonic()
        tf.distribute.get_replica_context().all_reduce("sum", 1.0)
        return tf.report().since(before), worked

    shown = on_replicas(4, program)
    worked = [seconds for _, seconds in shown]  # the others, too, take some time on a busy machine
    more = worked[3] - np.array(worked[:3])
    for found, _ in shown:
        spent = found.to_dict()["spent"]
        assert spent["own code"][3] - spent["own code"][1] == pytest.approx(more[1], rel=0.2)
        assert spent["waiting"][:3] == pytest.approx(more, rel=0.2)
        # Node 1's replica 2 comes to a round when 3 does, having waited for it in each step.
        assert (found.straggler.replica, found.straggler.cause) == (3, "own code")
        assert found.straggler.seconds == pytest.approx(more.mean(), rel=0.2)
        last = str(found).splitlines()[5]  # there are no steps of all replicas, but three rounds
        assert last.split()[0] == "3"
        assert last.endswith(" calls")
        assert int(last.split()[-2]) >= 3


def test_one_replica_alone():
    """Where its own time goes; it waits for nobody, and a child that it forks is no part of it."""

    def program():
        v = tf.Variable(np.zeros(10, np.float32), name="v")
        optimizer, took = tf.optimizers.SGD(0.1), np.zeros(3)
        before = tf.report()

        def batches():
            for _ in range(4):
                begin = time.monotonic()
                time.sleep(0.02)
                took[1] += time.monotonic() - begin
                yield np.ones(10, np.float32)

        for gradient in tf.timed(batches()):
            optimizer.apply_gradients([(gradient, v)])
            begin = time.monotonic()
            time.sleep(0.01)
            took[0] += time.monotonic() - begin
        begin = time.monotonic()
        tf.distribute.saving(time.sleep)(0.03)
        took[2] = time.monotonic() - begin
        if os.fork() == 0:
            optimizer.apply_gradients([(np.ones(10, np.float32), v)])
            os._exit(0)
        os.wait()
        optimizer.apply_gradients([(np.ones(10, np.float32), v)])
        return before, tf.report(), optimizer.stats(), took

    before, found, stats, took = on_replicas(1, program)[0]
    assert before is None
    assert (stats["iterations"], found.steps, found.straggler) == (5, 5, None)
    # The first batch came before the first step, which is where the ledger begins.
    spent = found.spent[0]
    assert took[0] <= spent[Phase.OWN_CODE] + 1e-3
    assert spent[Phase.INPUT] == pytest.approx(0.75 * took[1], rel=0.2)
    assert spent[Phase.SAVING] == pytest.approx(took[2], rel=0.2)
    assert spent[Phase.IN_CALL] > spent[Phase.WAITING] == spent[Phase.WIRE] == 0
    assert not re.search("waiting,|lost|collective", str(found))


def test_no_straggler_is_made_up():
    def program():
        time.sleep(0.005)
        before = tf.report()
        context = tf.distribute.get_replica_context()
        for k in range(12):
            time.sleep(0.03 if k % 2 == rank() else 0)  # by turns
            context.all_reduce("sum", 1.0)
        ledger = context.collective_check.ledger
        return before, tf.report(), recently_last(ledger)

    before, after, words = on_replicas(2, program)[0]
    assert before is None
    assert after.straggler is None
    assert after.short() == words == ""
    assert after.lost > 0.1
    assert "no single replica is the cause" in str(after)


def test_the_recent_past_in_words():
    def program():
        context = tf.distribute.get_replica_context()
        for _ in range(25):
            time.sleep(0.01 if rank() == 1 else 0)
            context.all_reduce("sum", 1.0)
        return recently_last(context.collective_check.ledger)

    words = on_replicas(2, program)[0]
    assert words.startswith("replica 1 was last in 2")
    assert words.endswith("collective calls (own code)")


def test_fit_and_checkpoints_say_what_they_do(tmp_path):
    def program():
        late = 0.1 if rank() == 1 else 0

        def batches():
            for _ in range(5):
                time.sleep(late)
                yield np.ones((2, 3), np.float32), np.ones((2, 1), np.float32)

        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        data = keras.data.Dataset.from_generator(batches)
        model.fit(data, epochs=2, verbose=0)
        CheckpointManager(tmp_path, mine=Slow(5 * late), v=model.weights).save()
        tf.distribute.get_replica_context().all_reduce("sum", 1.0)
        return tf.report()

    found = on_replicas(2, program)[0].to_dict()
    assert found["spent"]["input"][1] - found["spent"]["input"][0] == pytest.approx(1.0, rel=0.2)
    assert 0.5 <= found["spent"]["saving"][1] < 1.0  # replica 0 writes the files


def test_the_bar_of_a_training_names_who_is_late(monkeypatch, capsys):
    pytest.importorskip("rich")
    monkeypatch.setenv("DISTOPT_LAUNCH_TTY", "1")

    def program():
        def batches():
            for _ in range(5):
                time.sleep(0.1 if rank() == 1 else 0)
                yield np.ones((2, 3), np.float32), np.ones((2, 1), np.float32)

        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        model.fit(keras.data.Dataset.from_generator(batches), epochs=2)

    on_replicas(2, program)
    last = capsys.readouterr().out.splitlines()[-1].split("\r")[-1]
    assert re.search(r"waits \d\d % \(replica 1, input\)", last), last


def run(fault, replicas, steps=STEPS, **variables):
    begin = time.monotonic()
    command = [jobs.MPIEXEC, "-n", replicas, sys.executable, PROGRAM, fault, steps]
    done = jobs.finish(jobs.start(command, **variables), begin)
    assert done.code == 0, done.err
    return json.loads(done.out), done.err


def check(fault, replicas, stats, said):
    """The right replica, phase and cost, and the paragraph at the end."""
    cause = {"stopped": "own code", "checkpoint": "saving"}.get(fault, fault)
    straggler = stats["straggler"]
    assert (straggler["replica"], straggler["cause"]) == (replicas - 1, cause)
    assert straggler["seconds"] == pytest.approx(stats["expected"], rel=0.2)
    assert stats["cost"][cause][replicas - 1] == pytest.approx(stats["expected"], rel=0.2)
    assert stats["expected"] >= 0.8 * COST[fault]
    told = stats["whole"] is not None  # compiling may have taken most of a job's time
    assert (f"Replica {replicas - 1} came last in" in said) == told
    assert (f"cost most by {cause}" in said) == told


@pytest.mark.launches
def test_a_job_ends_with_a_word_about_it():
    check("input", 2, *run("input", 2))


@pytest.mark.launches
@pytest.mark.slow
@pytest.mark.parametrize("fault", COST)
@pytest.mark.parametrize(("replicas", "nodes"), [(2, 1), (4, 1), (4, 2)])
def test_jobs_with_a_fault(fault, replicas, nodes):
    check(fault, replicas, *run(fault, replicas, DISTOPT_NODES=str(nodes)))


@pytest.mark.launches
@pytest.mark.slow
@pytest.mark.parametrize(("replicas", "nodes"), [(2, 1), (4, 2)])
def test_nothing_is_said_without_a_straggler(replicas, nodes):
    stats, said = run("none", replicas, DISTOPT_NODES=str(nodes))
    late = np.array(stats["offsets"])
    cost = (late.max(0) - late).sum(0) / (replicas - 1)
    caused = np.bincount(late.argmax(0), cost, replicas)
    straggler = stats["straggler"]
    if straggler is None:
        # A busy machine may really keep one of them from running.
        assert caused.sum() < 0.12 * stats["seconds"] or caused.max() < 0.84 * caused.sum()
    else:
        assert straggler["replica"] == caused.argmax()
        assert straggler["seconds"] == pytest.approx(caused.max(), rel=0.2)
    assert ("lost by waiting" in said) <= (stats["whole"] is not None)


@pytest.mark.launches
@pytest.mark.slow
def test_the_word_can_be_silenced():
    _, said = run("own code", 2, DISTOPT_STRAGGLERS="0")
    assert "lost by waiting" not in said
