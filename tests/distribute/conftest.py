"""Jobs of programs that begin alike and go wrong after their first step."""

import os
import time

import jobs
import pytest

PROLOGUE = """
import os, pathlib, signal, sys, time
import numpy as np
from distopt import Variable
from distopt.distribute import get_replica_context
from distopt.optimizers import SGD
# On a busy machine they start seconds apart, which is not what is tested.
if {"PMI_SIZE", "OMPI_COMM_WORLD_SIZE"} & {*os.environ}:
    from mpi4py import MPI
    MPI.COMM_WORLD.Barrier()
context = get_replica_context()
rank = context.replica_id_in_sync_group
(pathlib.Path(os.environ["PIDS"]) / str(os.getpid())).touch()
v, w, optimizer = Variable(np.ones((300, 70), "f4"), name="v"), Variable([1.0], name="w"), SGD(0.5)
def say(*words):
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())  # in one piece
def step(*variables):
    optimizer.apply_gradients([(np.ones(x.shape, "f4"), x) for x in variables or (v, w)])
step()
"""


@pytest.fixture
def job(tmp_path):
    """``job(text, replicas=2, send=None, **environment)``: runs the program; nothing may be left of it."""

    def run(text, replicas=2, send=None, prologue=PROLOGUE, limit=60, **variables):
        script, pids = tmp_path / "program.py", tmp_path / "pids"
        pids.mkdir()
        script.write_text(prologue + text)
        before = set(os.listdir("/dev/shm"))
        command = jobs.mpi(replicas, script) if replicas else jobs.python(script)
        begin = time.monotonic()
        process = jobs.start(command, PIDS=str(pids), **variables)
        if send is not None:
            while not list(tmp_path.glob("ready*")) and time.monotonic() < begin + limit:
                assert process.poll() is None, process.communicate()
                time.sleep(0.02)
            send(process, [int(file.name) for file in pids.iterdir()])
            begin = time.monotonic()
        done = jobs.finish(process, begin, limit)
        known = [int(file.name) for file in pids.iterdir()]
        assert jobs.gone(known), "processes were left behind"
        mine = {name for name in set(os.listdir("/dev/shm")) - before if "distopt" in name}
        assert not mine, "shared memory was left behind"
        assert len(known) == replicas, done.err
        return done

    return run
