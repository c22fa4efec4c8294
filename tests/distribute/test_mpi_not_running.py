"""Programs that initialize or finalize MPI themselves, at a wrong time: an error in words, not MPI's own."""

import pytest

pytestmark = [pytest.mark.launches, pytest.mark.timeout(120)]

BEGIN = """
import os, pathlib
import mpi4py
mpi4py.rc.initialize = {initialize}
import numpy as np
import distopt as tf
(pathlib.Path(os.environ["PIDS"]) / str(os.getpid())).touch()
def say(*words):
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())
def use():
    v = tf.Variable([1.0])
    tf.optimizers.SGD(1.0).apply_gradients([([1.0], v)])
    return float(v[0])
def refused(call):
    try:
        call()
    except tf.errors.LaunchError as error:
        say("refused:", error)
"""

BY_HAND = """
refused(use)
from mpi4py import MPI
refused(use)
MPI.Init()
say("used:", use())
v, optimizer = tf.Variable([1.0]), tf.optimizers.SGD(1.0)
optimizer.apply_gradients([([1.0], v)])
MPI.Finalize()
refused(lambda: tf.distribute.get_replica_context().all_reduce("sum", 1.0))
refused(tf.distribute.MPIStrategy)
say("value:", float(v[0]))
"""


def test_initialized_later_and_finalized_early(job):
    done = job(BY_HAND, prologue=BEGIN.format(initialize=False))
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    early = [line for line in lines if "MPI is not initialized" in line]
    late = [line for line in lines if "MPI has been finalized" in line]
    assert len(early) == 4
    assert len(late) == 4
    assert all("call MPI.Init() before the first use of distopt" in line for line in early)
    assert all("call MPI.Finalize() after the last use of distopt" in line for line in late)
    assert lines.count("used: -1.0") == lines.count("value: -1.0") == 2
    assert "Attempting to use an MPI routine" not in done.err


def test_finalized_before_the_first_use(job):
    text = "from mpi4py import MPI\nMPI.Finalize()\nuse()\n"
    done = job(text, prologue=BEGIN.format(initialize=True))
    assert done.code == 1
    assert "LaunchError: MPI has been finalized" in done.err
    assert "Attempting to use an MPI routine" not in done.err


def test_finalized_after_the_last_use(job):
    text = "say(use())\nfrom mpi4py import MPI\nMPI.Finalize()\n"
    done = job(text, prologue=BEGIN.format(initialize=True))
    assert done.code == 0, done.err
    assert done.out.splitlines() == ["-1.0"] * 2
