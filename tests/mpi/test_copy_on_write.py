"""Views of the replicas' own, in threads and processes: what they show, what is found, what they cost."""

import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replicated import rank

from distopt import Variable
from distopt.comm.private_view import CopiedView
from distopt.distribute import get_replica_context
from distopt.engine import viewed_block
from distopt.engine.step import StepEngine
from distopt.errors import ReplicaMismatch
from distopt.optimizers import SGD


class Model:
    """Variables of the given sizes, all 10, which the replica reads in views of its own."""

    def __init__(self, *sizes: int) -> None:
        self.variables = [
            Variable(np.full(size, 10.0 + rank(), np.float32), name=f"v{i}") for i, size in enumerate(sizes)
        ]
        for v in self.variables:
            v.storage.copy_on_write = True
        self.engine = StepEngine.of(get_replica_context())
        self.engine.share("share()", self.variables)
        self.views = [self.engine.parameters.private_view(v) for v in self.variables]
        self.optimizer = SGD(0.5)

    def step(self) -> None:
        gradient = 1.0 / self.engine.replicas
        self.engine.parameters.take_edits(self.variables)
        self.optimizer.apply_gradients([(np.full(v.shape, gradient, np.float32), v) for v in self.variables])
        self.engine.parameters.discard_edits(self.variables)

    def values(self) -> list[float]:
        return [float(view[0]) for view in self.views]


def together() -> None:
    get_replica_context().comm.barrier()


@pytest.fixture(params=["mapped", "copied"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds of views."""
    if request.param == "copied":
        monkeypatch.setattr(viewed_block, "private_view", CopiedView)


@pytest.mark.usefixtures("kind")
def test_updates_show_and_edits_of_all_count_once(replicas: Any) -> None:
    def program() -> list[list[float]]:
        model = Model(3, 100_000)
        seen = [model.values()]
        model.step()
        seen.append(model.values())
        for view in model.views:
            view[:] = 100.0
        model.step()
        seen.append(model.values())
        model.step()
        assert model.engine.parameters.edited(model.variables) == []
        return [*seen, model.values()]

    want = [[10.0, 10.0], [9.5, 9.5], [99.5, 99.5], [99.0, 99.0]]
    assert replicas.run(program) == [want] * replicas.size


@pytest.mark.usefixtures("kind")
def test_an_edit_of_one_replica_is_its_own_and_is_named_by_all(replicas: Any) -> None:
    if replicas.size == 1:
        pytest.skip("nobody to differ from")

    def program() -> tuple[list[float], list[str]]:
        model = Model(3, 100_000)
        last = model.engine.replicas - 1
        if rank() == last:
            model.views[1][0] = 77.0
        together()
        found = [v.name for v in model.engine.parameters.edited(model.variables)]
        with pytest.raises(ReplicaMismatch, match="v1:0 assigned since the last step"):
            model.step()
        seen = model.values()
        if rank() == last:
            model.views[1][0] = 10.0
        model.step()
        assert model.values() == [9.5, 9.5]
        return seen, found

    others = [([10.0, 10.0], [])] * (replicas.size - 1)
    assert replicas.run(program) == [*others, ([10.0, 77.0], ["v1:0"])]


@pytest.mark.usefixtures("kind")
def test_a_child_writes_to_its_own_pages(replicas: Any) -> None:
    if replicas.size == 1:
        pytest.skip("nothing is shared")

    def program() -> tuple[str, list[float], list[str]]:
        model = Model(3, 100_000)
        model.views[1][50_000] = 20.0
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            model.views[0][0] = 30.0
            found = [v.name for v in model.engine.parameters.edited(model.variables)]
            os.write(writer, f"{model.values()} {model.views[1][50_000]} {found}".encode())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        text = os.read(reader, 1000).decode()
        os.close(reader)
        os.close(writer)
        return text, model.values(), [v.name for v in model.engine.parameters.edited(model.variables)]

    want = ("[30.0, 10.0] 20.0 ['v0:0', 'v1:0']", [10.0, 10.0], ["v1:0"])
    assert replicas.run(program) == [want] * replicas.size


def test_a_child_that_trains_has_memory_of_its_own(replicas: Any) -> None:
    def program() -> tuple[str, list[float]]:
        model = Model(3, 100_000)
        model.step()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            engine = StepEngine.of(get_replica_context())
            views = [engine.parameters.private_view(v) for v in model.variables]
            views[0][:] = 20.0
            model.optimizer.apply_gradients([(np.ones(v.shape, np.float32), v) for v in model.variables])
            os.write(writer, f"{engine.replicas} {[float(view[0]) for view in views]}".encode())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        text = os.read(reader, 1000).decode()
        os.close(reader)
        os.close(writer)
        model.step()
        return text, model.values()

    if replicas.kind == "virtual" and replicas.size > 1:
        pytest.skip("a child of threads that take turns")
    assert replicas.run(program) == [("1 [19.5, 9.0]", [9.0, 9.0])] * replicas.size


def mappings() -> Iterator[dict[str, int]]:
    """What the system says of each mapping of the node's memory in this process, in bytes."""
    inside, found = False, dict[str, int]()
    for line in [*Path("/proc/self/smaps").read_text().splitlines(), "0-0 end"]:
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            if inside:
                yield found
            inside, found = "/memfd:distopt" in line, {}
        elif inside and line.endswith(" kB"):
            name, amount, _ = line.split()
            found[name.rstrip(":")] = int(amount) * 1024


def test_views_that_are_only_read_cost_no_second_copy(replicas: Any) -> None:
    if replicas.size == 1:
        pytest.skip("nothing is shared")
    nbytes = 100_000_000

    def program() -> tuple[int, int, int, int]:
        before = sum(m["Pss"] for m in mappings())
        together()
        model = Model(*[nbytes // 40] * 10)
        model.step()
        assert all((view == 9.5).all() for view in model.views)
        together()
        now = list(mappings())
        together()
        model.views[3][:1000] += 1
        together()
        edited = sum(m["Anonymous"] for m in mappings())
        together()
        reduce = model.engine.parameters.reduce
        nodes = reduce.job.size // reduce.node.size
        return nodes, sum(m["Pss"] for m in now) - before, sum(m["Anonymous"] for m in now), edited

    rows = replicas.run(program)
    processes, replicas_each = (rows, 1) if replicas.kind == "mpi" else (rows[:1], replicas.size)
    nodes = rows[0][0]
    assert 0.99 * nodes * nbytes < sum(shared for _, shared, _, _ in processes) < 1.1 * nodes * nbytes
    assert [own for _, _, own, _ in processes] == [0] * len(processes)
    assert max(edited for *_, edited in processes) <= 2 * mmap.PAGESIZE * replicas_each
