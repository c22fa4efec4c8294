"""Edits, assignments and steps in any order: every replica's views show what a list of numbers says."""

import random

import numpy as np
import pytest
from replicated import on_replicas

from distopt import Variable
from distopt.comm import private_view
from distopt.comm.private_view import CopiedView
from distopt.distribute import get_replica_context
from distopt.engine import viewed_block
from distopt.engine.step import StepEngine
from distopt.optimizers import SGD

#: Elements of the variables: some lie on one page, some on several. The second row has a block of its own.
SHARED_TOGETHER = [[3, 5, 1000, 1], [700, 3000, 5000], [10, 2000]]
BLOCKS = [{0, 1, 2, 3, 7, 8}, {4, 5, 6}]


class Program:
    """One replica's variables and, by their numbers, the values that they should have.

    Args:
        replicas: how many there are.
    """

    def __init__(self, replicas):
        self.engine = StepEngine.of(get_replica_context())
        self.parameters = self.engine.parameters
        self.variables = []
        for sizes in SHARED_TOGETHER:
            new = [Variable(np.zeros(size, "f4"), name=f"v{size}") for size in sizes]
            for v in new:
                v.storage.copy_on_write = True
            self.engine.share("share()", new)
            self.variables += new
        self.views = [self.parameters.private_view(v) for v in self.variables]
        self.optimizers = [SGD(1.0), SGD(2.0)]
        self.gradient = 1.0 / replicas
        self.values = [0.0] * len(self.views)
        self.unseen = set()  # assigned to, which views show when edits are taken

    def edit(self, number, value):
        self.views[number][...] = value
        if number not in self.unseen:
            self.values[number] = value

    def touch(self, number):
        self.views[number][-1] += 0.0

    def assign(self, number, value):
        self.variables[number].assign(np.full(self.views[number].shape, value, "f4"))
        self.values[number] = value
        self.unseen.add(number)

    def step(self, numbers, optimizer):
        chosen = [self.variables[i] for i in numbers]
        self.parameters.take_edits(chosen)
        pairs = [(np.full(v.shape, self.gradient, "f4"), v) for v in chosen]
        self.optimizers[optimizer].apply_gradients(pairs)
        self.parameters.discard_edits(chosen)
        for i in numbers:
            self.values[i] -= optimizer + 1.0
        for block in BLOCKS:
            if block & set(numbers):
                self.unseen -= block

    def check(self):
        for i, (view, value) in enumerate(zip(self.views, self.values, strict=True)):
            assert i in self.unseen or (view == value).all(), (i, value, view)


def run(program, draw):
    for _ in range(60):
        action, number = draw.choice(["edit", "touch", "assign", "step", "step"]), draw.randrange(9)
        if action == "step":
            numbers = draw.sample(range(9), draw.randint(1, 9))
            program.step(numbers, draw.randrange(2))
        elif action == "touch":
            program.touch(number)
        else:
            getattr(program, action)(number, float(draw.randint(-3, 3)))
        program.check()
    program.step(range(9), 0)
    program.check()
    assert program.parameters.edited(program.variables) == []
    return [
        v.numpy().tobytes() == view.tobytes()
        for v, view in zip(program.variables, program.views, strict=True)
    ]


@pytest.mark.parametrize("make", [private_view, CopiedView])
@pytest.mark.parametrize("seed", range(8))
def test_views_show_what_was_written_last(seed, make, monkeypatch):
    monkeypatch.setattr(viewed_block, "private_view", make)
    replicas = 2 + seed % 2
    for same in on_replicas(replicas, lambda: run(Program(replicas), random.Random(seed))):
        assert same == [True] * 9
