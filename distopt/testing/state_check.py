"""The conformance test for aggregators that keep state from step to step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from distopt.aggregators import Aggregator, Chain
from distopt.core.random import stream
from distopt.core.variable import Variable
from distopt.distribute import VirtualStrategy, require_replica_context
from distopt.optimizers import SGD
from distopt.optimizers.state import make_weights
from distopt.typing import Array

__all__ = ["KEEPING_STATE", "keeps_state", "state_reasons"]

#: How it is done, for the end of a report.
KEEPING_STATE = """\
State that lasts from step to step belongs in Variables: create them in build(), list them in weights, read
them in __call__(), assign them in finish_step(). State of one replica, such as the residual of a compression,
needs synchronization=tf.VariableSynchronization.ON_READ. Example: docs/howto/aggregators-state.md"""

STEPS = 2


@dataclass
class _Training:
    """One replica's values and state after some steps."""

    values: list[Array]
    weights: list[Array]


class _SharedTraining:
    """A few steps of SGD, which one replica makes or several share."""

    def __init__(self, aggregator: Aggregator, start: _Training | None = None) -> None:
        values = start.values if start else [np.ones(4, np.float32), np.ones((2, 3), np.float32)]
        self._variables = [Variable(value, name=f"v{i}") for i, value in enumerate(values)]
        self._optimizer = SGD(0.5, gradient_aggregator=copy.deepcopy(aggregator))
        self._start = start

    def restore(self) -> None:
        """Takes over the state that the training begins with."""
        if self._start is not None:
            make_weights(self._optimizer, self._variables)
            self._optimizer.set_weights(self._start.weights)

    def steps(self, first: int) -> _Training:
        """Makes steps, counted from ``first``."""
        replica = require_replica_context("an aggregator").replica_id_in_sync_group
        for step in range(first, first + STEPS):
            random = stream(step, replica=replica)
            gradients = [random.normal(size=v.shape).astype("f4") for v in self._variables]
            self._optimizer.apply_gradients(list(zip(gradients, self._variables, strict=True)))
        return _Training([v.numpy() for v in self._variables], self._optimizer.get_weights())


def keeps_state(aggregator: Any) -> TypeGuard[Aggregator]:
    """Whether it does something after a step."""
    if isinstance(aggregator, Chain):
        return any(map(keeps_state, aggregator.parts))
    hook = getattr(type(aggregator), "finish_step", None)
    return isinstance(aggregator, Aggregator) and hook is not Aggregator.finish_step


def state_reasons(aggregator: Aggregator, size: int) -> Iterator[str]:
    """What is wrong with the state of an aggregator that keeps some, on ``size`` replicas."""
    try:
        half = _on(size, lambda _: _SharedTraining(aggregator).steps(0))

        def uninterrupted(_: int) -> _Training:
            program = _SharedTraining(aggregator)
            program.steps(0)
            return program.steps(STEPS)

        def restored(replica: int) -> _Training:
            program = _SharedTraining(aggregator, half[replica])
            program.restore()
            return program.steps(STEPS)

        whole = _on(size, uninterrupted)
        if not _alike(_on(size, restored), whole):
            yield "training that continues from saved weights differs from training without interruption"
        if size > 1:
            one = _SharedTraining(aggregator)
            _on(size, lambda _: one.steps(0))
            if not _alike(_on(size, lambda _: one.steps(STEPS)), whole):
                yield "training with one aggregator for all replicas of a process differs from one for each"
    except Exception as error:
        yield f"in a training, raised {type(error).__name__}: {error}"


def _on(size: int, program: Callable[[int], _Training]) -> list[_Training]:
    """The results by replica."""
    results: dict[int, _Training] = {}

    def run() -> None:
        replica = require_replica_context("an aggregator").replica_id_in_sync_group
        results[replica] = program(replica)

    VirtualStrategy(size).run(run)
    return [results[replica] for replica in range(size)]


def _alike(first: Sequence[_Training], second: Sequence[_Training]) -> bool:
    """Bitwise, NaN and all."""

    def bits(training: _Training) -> list[bytes]:
        return [np.asarray(array).tobytes() for array in (*training.values, *training.weights)]

    return [bits(t) for t in first] == [bits(t) for t in second]
