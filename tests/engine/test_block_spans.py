"""What a replica records for a timeline: own code, header, sum and update of each block."""

import json
import os
import time

import numpy as np
import pytest

import distopt as tf
from distopt.collectives.partition import BLOCK
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
