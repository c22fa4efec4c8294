"""Between steps nothing runs, and who waits for long sleeps: the program's own threads need the cores."""

import time
from typing import Any

import numpy as np

from distopt import Variable, optimizers
from distopt.distribute import get_replica_context

#: Seconds.
PAUSE = 1.0


def trained(optimizer: Any) -> Any:
    """A step, so that everything that a job starts has been started."""
    variables = [Variable(np.zeros(100_000, np.float32)), Variable([0.0])]

    def step() -> None:
        optimizer.apply_gradients([(np.ones(v.shape, np.float32), v) for v in variables])

    for _ in range(3):
        step()
    get_replica_context().all_reduce("sum", np.ones(1000, np.float32))
    return step


def test_nothing_runs_while_the_program_does_something_else(replicas: Any) -> None:
    def program() -> float:
        trained(optimizers.Adam())
        before = time.process_time()  # of all threads
        time.sleep(PAUSE)
        return time.process_time() - before

    assert all(spent < 0.05 * PAUSE for spent in replicas.run(program))


def test_who_waits_for_a_late_replica_leaves_it_the_cores(replicas: Any) -> None:
    def program() -> float:
        step = trained(optimizers.Adam())
        late = get_replica_context().replica_id_in_sync_group == replicas.size - 1
        before = time.process_time()
        if late:
            time.sleep(2 * PAUSE)
        step()
        return time.process_time() - before

    assert all(spent < 0.5 * PAUSE for spent in replicas.run(program))
