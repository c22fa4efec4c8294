"""Streams of random numbers: one for each replica and step, the same under every layout."""

import subprocess
import sys

import numpy as np
import pytest

import distopt as tf
from distopt.distribute import VirtualStrategy

SCRIPT = """
import distopt as tf
for step in range(2):
    print(tf.random.stream(3, step).integers(1 << 60))
"""


def draw(**arguments):
    return tf.random.stream(seed=3, **arguments).integers(1 << 60, size=4).tolist()


def test_each_replica_and_step_has_its_own():
    drawn = []
    VirtualStrategy(4).run(lambda: drawn.append([draw(step=s) for s in range(3)]))
    assert len({n for steps in drawn for numbers in steps for n in numbers}) == 4 * 3 * 4
    assert draw(replica=2, step=1) == drawn[2][1]


def test_purposes_and_seeds_differ():
    assert draw(purpose=1) != draw()
    assert tf.random.stream(4).random() != tf.random.stream(3).random()
    assert draw() == draw()


def test_the_numbers_stay_what_they_are():
    """Philox4x64-10 with key (seed, purpose) and counter (0, 0, step, replica)."""
    own = np.random.Generator(np.random.Philox(key=[3, 0], counter=[0, 0, 5, 2]))
    assert draw(replica=2, step=5) == own.integers(1 << 60, size=4).tolist()


def test_outside_of_a_replica_it_must_be_said_whose():
    strategy = VirtualStrategy(2)
    with strategy.scope():
        with pytest.raises(RuntimeError, match="pass replica="):
            tf.random.stream(1)
        assert tf.random.stream(3, replica=1).random() == tf.random.stream(3, replica=1).random()


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": 1, "step": -1}, {"seed": 2**64}])
def test_out_of_range(wrong):
    with pytest.raises(ValueError, match=r"must be between 0 and 2\*\*64 - 1"):
        tf.random.stream(**wrong)


@pytest.mark.launches
@pytest.mark.parametrize(
    "words",
    [
        "--in-process 4",
        "-n 2 --replicas-per-process 2",
        pytest.param("-n 4", marks=pytest.mark.slow),
    ],
)
def test_the_same_in_processes_and_threads(tmp_path, words):
    script = tmp_path / "draw.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "distopt_launch", *words.split(), str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    numbers = sorted(int(line.split()[-1]) for line in done.stdout.splitlines())
    want = sorted(
        int(tf.random.stream(3, s, replica=r).integers(1 << 60)) for r in range(4) for s in range(2)
    )
    assert numbers == want
