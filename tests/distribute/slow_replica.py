"""A training in which one replica is slow, in one of several ways; the last replica is the one."""

import json
import os
import shutil
import signal
import sys
import tempfile
import time

import numpy as np

import distopt as tf
from distopt.checkpoint import CheckpointManager

WORK, LATE = 0.01, 0.05


def data(slow):
    for _ in range(10**9):
        time.sleep(WORK + slow)
        yield None


@tf.distribute.saving
def save():
    time.sleep(10 * LATE)


class Part:
    """Something that one replica takes long to save."""

    def __init__(self, seconds):
        self._seconds, self.slept = seconds, 0.0

    def get_state(self):
        begin = time.monotonic()
        time.sleep(self._seconds)
        self.slept += time.monotonic() - begin
        return {}

    def set_state(self, state):
        pass


def main(fault, steps):
    context = tf.distribute.get_replica_context()
    rank, size = context.replica_id_in_sync_group, context.num_replicas_in_sync
    culprit = rank == size - 1
    variables = [tf.Variable(np.zeros((20, 20), np.float32), name=f"v{i}") for i in range(3)]
    pairs = [(np.ones((20, 20), np.float32), v) for v in variables]
    optimizer = tf.optimizers.SGD(0.1)
    for _ in range(3):
        optimizer.apply_gradients(pairs)
    before = tf.report()  # the first steps compile
    folder = tempfile.mkdtemp() if rank == 0 and fault == "checkpoint" else ""
    folder = context.comm.gather_bytes(folder.encode())[0].decode() if fault == "checkpoint" else ""
    part = Part(10 * LATE if culprit else 0)
    manager = CheckpointManager(folder, part=part) if folder else None
    arrivals = []
    batches = iter(tf.timed(data(LATE if culprit and fault == "input" else 0)))
    for step in range(steps):
        next(batches)
        if culprit and fault == "own code":
            time.sleep(LATE)
        if culprit and fault == "saving" and step % 10 == 9:
            save()
        if manager is not None and step % 10 == 9:
            manager.save()
        if culprit and fault == "stopped" and step == steps // 2:
            if os.fork() == 0:
                time.sleep(1)
                os.kill(os.getppid(), signal.SIGCONT)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGSTOP)
        arrivals.append(time.monotonic())
        optimizer.apply_gradients(pairs)
    whole, stats = optimizer.stats(), tf.report().since(before).to_dict()
    came = np.array(context.all_gather(np.array([arrivals]), 0))
    cost = (came.max(0) - came)[:-1].mean(0)[came.argmax(0) == size - 1].sum()
    cost += context.all_gather(np.array([part.slept]), 0)[-1]  # nobody leaves a save before all have come
    if folder and rank == 0:
        shutil.rmtree(folder)
    if rank == 0:
        offsets = (came - came.min(0)).round(4).tolist()
        shown = {"expected": float(cost), "whole": whole["straggler"], "offsets": offsets}
        print(json.dumps({**stats, **shown}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
