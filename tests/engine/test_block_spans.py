"""What a replica records for a timeline: own code, header, sum and update of each block."""

import json
import os
import threading
import time
from contextvars import copy_context

import numpy as np
import pytest

import distopt as tf
from distopt.collectives.partition import BLOCK
from distopt.distribute import get_replica_context
from tests.launch.trace_format import check_nesting
from tests.replicated import on_replicas, rank


@pytest.fixture
def lines(monkeypatch):
    """Asks for the spans of steps 2 and 3; what has been sent, as messages."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    monkeypatch.setenv("DISTOPT_LAUNCH_WISHES", "telemetry timeline=2:4")
    monkeypatch.setenv("DISTOPT_LAUNCH_TELEMETRY", f"{writer}:0")

    def sent():
        text = os.read(reader, 1 << 20).decode()
        messages = [json.loads(line.split(" ", 2)[2]) for line in text.splitlines()]
        assert max(map(len, text.splitlines())) < 4096  # so that a write to a pipe is atomic
        return [message for message in messages if message["kind"] == "spans"]

    yield sent
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("replicas", [1, 2])
def test_spans_of_the_steps_that_were_asked_for(lines, replicas):
    def train():
        variables = [tf.Variable(np.zeros(BLOCK, np.float32), name=name) for name in ("left", "right")]
        optimizer = tf.optimizers.SGD(0.5)
        pairs = [(np.ones(BLOCK, np.float32), v) for v in variables]
        for step in range(1, 5):
            if step == 3 and rank() == replicas - 1:
                time.sleep(0.05)
            optimizer.apply_gradients(pairs)
        return variables[0].numpy()[0]

    assert on_replicas(replicas, train) == [-2.0 * replicas] * replicas
    messages = lines()
    assert {message["replica"] for message in messages} == set(range(replicas))
    for replica in range(replicas):
        rows = [row for message in messages if message["replica"] == replica for row in message["rows"]]
        own = [length for _, name, _, length, _ in rows if name == "own code"]
        assert len(own) == 2
        if replica == replicas - 1:
            assert own[0] < 40_000 < 50_000 <= own[1]
        calls = [(begin, begin + length) for _, name, begin, length, _ in rows if name == "apply_gradients"]
        assert len(calls) == 2
        blocks = [row for row in rows if row[1].startswith("block ")]
        assert len(blocks) == 2 * len({row[1] for row in blocks}) >= 4
        for _, _, begin, length, arguments in blocks:
            assert any(start <= begin and begin + length <= end for start, end in calls)
            assert arguments["variables"] in ("left:0", "right:0", "left:0, right:0")
        if replicas > 1:
            assert sum(name == "header" for _, name, *_ in rows) >= 2


def events(messages, replica):
    """The spans of a replica's thread, as `check_nesting` takes them."""
    rows = [row for message in messages if message["replica"] == replica for row in message["rows"]]
    return [{"name": row[1], "ts": row[2], "dur": row[3]} for row in rows if row[0] == "X"]


def send():
    get_replica_context().world.spans.send()


def test_nothing_comes_of_steps_that_were_not_asked_for(lines):
    def train():
        get_replica_context().all_reduce("sum", np.ones(2))
        v = tf.Variable([0.0])
        tf.optimizers.SGD(0.5).apply_gradients([(np.ones(1, np.float32), v)])
        send()

    on_replicas(2, train)
    assert lines() == []


def test_long_names_that_are_not_ascii_arrive(lines):
    """JSON escapes them: a character takes up to twelve bytes."""

    def train():
        variables = [tf.Variable(np.zeros(BLOCK, np.float32), name=60 * letter) for letter in "жщ𝒳"]
        optimizer = tf.optimizers.SGD(0.5)
        for _ in range(4):
            optimizer.apply_gradients([(np.ones(BLOCK, np.float32), v) for v in variables])

    on_replicas(2, train)
    messages = lines()
    for replica in (0, 1):
        names = [event["name"] for event in events(messages, replica)]
        assert names.count("apply_gradients") == 2


def test_input_with_collective_calls_lies_between_them(lines):
    def loader():
        for step in range(5):
            get_replica_context().all_reduce("sum", np.ones(2))
            time.sleep(0.005)
            get_replica_context().all_reduce("sum", np.ones(2))
            yield step

    def train():
        v, optimizer = tf.Variable([0.0]), tf.optimizers.SGD(0.5)
        for _ in tf.timed(loader()):
            optimizer.apply_gradients([(np.ones(1, np.float32), v)])

    on_replicas(2, train)
    messages = lines()
    for replica in (0, 1):
        spans = events(messages, replica)
        check_nesting(spans)
        # Of steps 2 and 3, up to step 4; the part after the last call belongs to that one.
        lengths = [event["dur"] for event in spans if event["name"] == "input"]
        assert sum(length >= 5000 for length in lengths) == 1


def test_a_thread_that_reads_ahead_has_no_spans(lines):
    """They would overlap those of the thread that trains."""

    def train():
        v, optimizer = tf.Variable([0.0]), tf.optimizers.SGD(0.5)
        for _ in range(4):
            thread = threading.Thread(target=copy_context().run, args=(list, tf.timed([1, 2, 3])))
            thread.start()
            thread.join()
            optimizer.apply_gradients([(np.ones(1, np.float32), v)])

    on_replicas(2, train)
    names = [event["name"] for event in events(lines(), 0)]
    assert names.count("apply_gradients") == 2
    assert "input" not in names


def test_steps_within_a_node_are_those_of_the_replica_of_the_job(lines, monkeypatch):
    monkeypatch.setenv("DISTOPT_NODES", "2")

    def train():
        v = tf.Variable([0.0])
        optimizer = tf.optimizers.LocalSGD(tf.optimizers.SGD(0.5, gradient_aggregator="mean"), 10)
        for _ in range(4):
            optimizer.apply_gradients([(np.ones(1, np.float32), v)])

    on_replicas(4, train)
    messages = lines()
    assert {message["replica"] for message in messages} == {0, 1, 2, 3}


def test_messages_of_the_next_step_are_left_out(lines):
    """A step with overlap sends to other nodes before its call, while the backward pass goes on."""

    def train():
        spans = get_replica_context().world.spans
        v, optimizer = tf.Variable([0.0]), tf.optimizers.SGD(0.5)
        for step in range(1, 5):
            if spans.on:
                spans.add(("W", "wire", time.perf_counter_ns(), time.perf_counter_ns(), {"step": step}))
            optimizer.apply_gradients([(np.ones(1, np.float32), v)])

    on_replicas(1, train)
    rows = [row for message in lines() for row in message["rows"]]
    assert [row[4]["step"] for row in rows if row[0] == "W"] == [3]
