"""A program that makes models and drops them, as a search does, needs no more memory from round to round."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distopt import Variable, optimizers


def anonymous() -> int:
    """KiB of memory that this process has for itself."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0])


def make_train_and_drop() -> None:
    variables = [Variable(np.zeros(50, np.float32)) for _ in range(3)]
    optimizer = optimizers.Adam(0.1)
    for _ in range(2):
        optimizer.apply_gradients([(np.ones(50, np.float32), v) for v in variables])


@pytest.mark.parametrize("rounds", [200, pytest.param(800, marks=pytest.mark.slow)])
def test_models_that_are_dropped_leave_nothing(replicas: Any, rounds: int) -> None:
    def program() -> int:
        for _ in range(100):
            make_train_and_drop()
        gc.collect()
        before = anonymous()
        for _ in range(rounds):
            make_train_and_drop()
        gc.collect()
        return anonymous() - before

    # A table of Python's own may double meanwhile, which takes 1 MB once.
    assert max(replicas.run(program)) < 2000
