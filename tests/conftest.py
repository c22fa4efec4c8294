"""What all tests share: replicas to run on, in one process or under an MPI launcher."""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import pytest

from distopt.launched import launched

# A shell's background command ignores Ctrl-C, and so would all that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# With it, a print is two writes, a line and its end, between which another replica's line can come.
os.environ.pop("PYTHONUNBUFFERED", None)

_JOB = launched()
WORLD = 1 if _JOB is None else _JOB.size


if WORLD > 1:
    # Replicas that share pytest's folder of temporary folders clean it up under each other's feet.
    _temporary = tempfile.TemporaryDirectory(prefix="distopt-tests-")
    os.environ["PYTEST_DEBUG_TEMPROOT"] = _temporary.name
else:
    import profiles  # noqa: F401 (registers them, before pytest chooses one)


def pytest_configure(config: pytest.Config) -> None:
    """Under MPI one replica speaks for all, unless it is another one that fails."""
    if WORLD > 1 and int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0"))) > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        reporter = config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None:
            reporter._tw._file = sys.stdout


class Replicas:
    """A number of replicas that a test runs a function on.

    Attributes:
        size: how many.
        kind: ``"virtual"`` or ``"mpi"``.
    """

    def __init__(self, size: int, kind: str) -> None:
        self.size, self.kind = size, kind

    def run(self, program: Callable[[], Any]) -> list[Any]:
        """Runs ``program`` in replica context on each; its results by replica number, everywhere."""
        from replicated import on_replicas  # here, since it loads distopt, which not all tests need

        if self.kind == "mpi":
            from mpi4py import MPI

            result = program()
            gathered: list[Any] = MPI.COMM_WORLD.allgather(result)
            return gathered
        return on_replicas(self.size, program)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start jobs come first: they take longest, and none is left for the end."""
    starting = {item.path for item in items if item.get_closest_marker("launches")}
    items.sort(key=lambda item: item.path not in starting)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Compiles what most jobs need, before many processes at once would each do it."""
    import numpy as np
    from replicated import on_replicas

    import distopt

    def program() -> None:
        v = distopt.Variable(np.zeros(3, np.float32))
        for optimizer in (distopt.optimizers.SGD(), distopt.optimizers.Adam()):
            optimizer.apply_gradients([(np.ones(3, np.float32), v)])

    on_replicas(2, program)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Thousands of tests and their modules stay: whatever walks over all objects need not see them."""
    gc.collect()
    gc.freeze()


def _own_choice(metafunc: pytest.Metafunc) -> bool:
    """Whether the test itself says how many replicas it wants."""
    return any("replicas" in str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``replicas``: 1, 2 and 4 in one process; under a launcher, its processes.

    Four are slow where nothing depends on the order of their sums, or on who agrees with whom.
    """
    if "replicas" in metafunc.fixturenames and not _own_choice(metafunc):
        choices = [Replicas(n, "virtual") for n in (1, 2, 4)] if WORLD == 1 else [Replicas(WORLD, "mpi")]
        slow = [] if metafunc.definition.get_closest_marker("tree") else [pytest.mark.slow]
        metafunc.parametrize(
            "replicas",
            [pytest.param(r, marks=slow if (r.kind, r.size) == ("virtual", 4) else []) for r in choices],
            ids=[f"{r.kind}-{r.size}" for r in choices],
        )
