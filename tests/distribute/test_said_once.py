"""Warnings that are the same on all replicas come once a job, from one of them, and not at every step."""

import logging
import subprocess
import sys

import numpy as np
import pytest

import distopt as tf
from distopt import keras
from distopt.distribute import VirtualStrategy, get_replica_context
from distopt.optimizers import SGD


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.WARNING, "distopt")
    return lambda words: [r.getMessage() for r in caplog.records if words in r.getMessage()]


def rank():
    return get_replica_context().replica_id_in_sync_group


def missing_steps(optimizer, variables):
    """Steps that lack the gradients of the second variable, then of the third, in turn."""
    for step in range(6):
        pairs = [(np.ones(1), v) for v in variables]
        absent = 1 + step % 2
        pairs[absent] = (None, variables[absent])
        optimizer.apply_gradients(pairs)


def variables():
    return [tf.Variable(np.zeros(1), name=name) for name in "abc"]


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("together", [False, True])
def test_gradients_that_do_not_exist(said, size, together):
    shared = (SGD(1.0), variables()) if together else None

    def program():
        missing_steps(*(shared or (SGD(1.0), variables())))

    VirtualStrategy(size).run(program)
    assert said("Gradients do not exist") == [
        "Gradients do not exist for variables ['b:0'] when minimizing the loss.",
        "Gradients do not exist for variables ['c:0'] when minimizing the loss.",
    ]


def test_each_optimizer_says_its_own(said):
    for _ in range(2):
        missing_steps(SGD(1.0), variables())
    assert len(said("Gradients do not exist")) == 4


def test_a_step_that_is_left_out(said):
    def program():
        w = tf.Variable([0.0, 0.0])
        gradient = np.array([np.inf if rank() else 1.0, 1.0], np.float32)
        SGD(1.0, on_nonfinite="skip").apply_gradients([(gradient, w)])

    VirtualStrategy(3).run(program)
    assert len(said("step skipped")) == 1
    assert all(f"replica {replica}: " in said("step skipped")[0] for replica in (1, 2))


def test_what_a_tape_does_not_watch(said):
    number = tf.Variable(3, name="a_number_of_this_test")

    def program():
        for _ in range(3):
            with tf.GradientTape() as tape:
                tape.watch(number)

    VirtualStrategy(3).run(program)
    assert len(said("variable 'a_number_of_this_test:0' has dtype int")) == 1


def test_eager_running_is_no_choice(said):
    def program():
        keras.Sequential([keras.layers.Dense(1)]).compile("sgd", "mse", run_eagerly=True)

    VirtualStrategy(3).run(program)
    assert len(said("distopt always runs eagerly")) == 1


@pytest.mark.parametrize(("rank", "count"), [("0", 1), ("1", 0)])
def test_graphs_before_mpi_is_started(rank, count):
    program = "import distopt as tf\n@tf.function\ndef f(): pass\n@tf.function\ndef g(): pass\n"
    program = "import os\n" + program + "assert 'mpi4py' not in __import__('sys').modules"
    env = {"PATH": "/usr/bin:/bin", "PMI_SIZE": "2", "PMI_RANK": rank}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=env)
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("functions run as they are") == count
