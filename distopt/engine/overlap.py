"""Overlap: gradients travel between nodes while the backward pass computes the next ones.

Whoever computes gradients hands each over as soon as it is final. Full blocks then go on their way, in one
order on all replicas. The step takes their sums if, on all replicas, what was handed over is still what is to
be summed; otherwise all of it is sent again.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from distopt.collectives import EXACT, InterNodeReduce, OverlappedSums, Partition, ShardReduce, address_of
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.engine.batch import GradientBatch
from distopt.engine.plan import StepPlan
from distopt.engine.trial import Trial
from distopt.typing import Array

__all__ = ["Overlap"]

_MODES = ("auto", "on", "off")
#: So many steps more that had other gradients than that had those handed over, and none are sent any more.
_MOST_OTHERS = 3
#: So often it gets ready for other variables at most.
_MOST_PLANS = 8
#: Of the arrivals of variables: it has not been handed over.
_NEVER = -1


class Overlap:
    """One optimizer's, on one replica.

    Args:
        reduce: sums shards.
        mode: ``"on"``, ``"off"``, or ``"auto"`` to find out whether it pays.

    Attributes:
        off: why nothing is sent before the step; empty if it is.
        variables: how many gradients steps have found summed, or on their way, so far.

    Raises:
        ValueError: another mode.
    """

    def __init__(self, reduce: ShardReduce, mode: str = "auto") -> None:
        if mode not in _MODES:
            raise ValueError(f"DISTOPT_OVERLAP must be one of {', '.join(_MODES)}; got {mode!r}")
        self._reduce = reduce
        self._channel: InterNodeReduce | None = None
        self._handover: _Handover | None = None
        #: When the variables were handed over since the last step.
        self._arrivals: dict[int, int] = {}
        self._clock = 0
        #: Of the last steps, how many were of other variables; how many had other gradients; all alike.
        self._unfit = self._others = self._plans = 0
        self._process = os.getpid()
        #: Variables are not to keep this alive.
        self._listener = weakref.WeakMethod(self.hand_over)
        self._trial = Trial(reduce.job)
        self._tried = mode == "auto"
        self.off = "DISTOPT_OVERLAP=off" if mode == "off" else ""
        self.variables = 0

    def __str__(self) -> str:
        if not self.off and self._handover is None:
            return ""  # nobody has handed over gradients
        when = f"after the backward pass: {self.off}" if self.off else "while the backward pass goes on"
        return f"gradients go to other nodes {when}"

    @property
    def on(self) -> bool:
        """Whether gradients of the next step may be sent before it; not in a child of the replica."""
        return not self.off and os.getpid() == self._process

    def hand_over(self, variable: Variable, gradient: Any) -> None:
        """This replica's gradient of a variable is final, as far as its maker knows; not collective.

        Args:
            variable: any; those that the last step did not have are passed over.
            gradient: an array that stays as it is until the step. If it does not, all is sent again.
        """
        if not self.on:
            return
        self._clock += 1
        self._arrivals[id(variable)] = self._clock
        if self._handover is not None and self._trial.on:
            self._handover.hand_over(variable, gradient)

    def advance(self) -> None:
        """Looks after messages, which move only when they are looked at."""
        if self._handover is not None:
            self._handover.sums.advance()

    # -- the step
    def holds(self, plan: StepPlan, batch: GradientBatch, wire: str = EXACT) -> tuple[bool, bool]:
        """Whether it is ready for such steps; whether what was handed over, if anything, is to be summed."""
        if self._handover is None or wire != EXACT or not self._handover.fits(plan):
            return False, False
        return True, self._trial.on and self._handover.holds(batch)

    def drop(self) -> None:
        """Does without the sums, on all replicas; collective."""
        if self._handover is None or not self._trial.on:
            return
        job = self._reduce.job
        begun = max(int(count[0]) for count in job.all_gather(np.array([self._handover.sums.begun])))
        self._handover.sums.drain(begun)
        self._handover.clear()
        self._others += 1
        if self._others == _MOST_OTHERS:
            self._end("gradients changed after they were sent early, in several steps")

    def totals(self, batch: GradientBatch) -> Iterator[tuple[int, int, Array]]:
        """The sums, as :meth:`OverlappedSums.totals` gives them, by the place of the executor; collective."""
        assert self._handover is not None
        self._others = max(self._others - 1, 0)
        self.variables += self._handover.take(batch)
        yield from self._handover.sums.totals()
        self._handover.clear()

    def stepped(self, plan: StepPlan, batch: GradientBatch, fitted: bool, wire: str = EXACT) -> None:
        """A step was made. Those to come send in the order in which its gradients came; collective.

        Args:
            plan: the step's.
            batch: its variables.
            fitted: whether all replicas were ready for such steps.
            wire: how gradients travelled; what is sent before a step travels as it is.
        """
        if self.off:
            return
        if wire != EXACT:
            self._end(f"{wire} is made of them in the step")
            return
        if fitted:
            self._unfit = 0
            if self._tried and self._trial.count():
                self._end(self._trial.verdict())
        else:
            self._unfit += 1
            if self._unfit == 1:
                for variable in batch.variables:
                    variable.gradient_listener = self._listener
            else:
                self._prepare(plan, batch)
        self._arrivals.clear()

    def _prepare(self, plan: StepPlan, batch: GradientBatch) -> None:
        """Agrees on the order of blocks; nothing is sent before the step if there is a reason for that."""
        self._handover, self._unfit = None, 0
        self._plans += 1
        if self._plans > _MOST_PLANS:
            self._end("variables change from step to step")
            return
        if batch.sparse or plan.constrained or not plan.executors:
            return  # their steps are not made in one go
        here = np.array([self._arrivals.get(id(v), _NEVER) for v in batch.variables], np.int64)
        arrivals = self._reduce.job.broadcast(here)
        if (arrivals == _NEVER).all():
            return
        if self._channel is None:
            self._channel = self._reduce.channel()
        if self._channel is None:
            self._end("replicas of one process take turns")
            return
        self._handover = _Handover(self._reduce, self._channel, plan, batch, arrivals)
        if self._tried:
            self._trial.begin()

    def _end(self, why: str) -> None:
        """Stops it for good."""
        self.off = why
        self._handover = None
        self._arrivals.clear()


class _Handover:
    """What is handed over for one plan, from one step to the next."""

    def __init__(
        self,
        reduce: ShardReduce,
        channel: InterNodeReduce,
        plan: StepPlan,
        batch: GradientBatch,
        arrivals: Array,
    ) -> None:
        self._plan = plan
        self._partitions = _partitions(plan)
        self._places = {id(v): i for i, v in enumerate(batch.variables)}
        self._expected = [(v.shape, v.dtype) for v in batch.variables]
        members = [
            (which, block, np.unique(partition.everyone_in(block)[:, 0]))
            for which, partition in enumerate(self._partitions)
            for block in range(partition.blocks)
        ]
        arrivals = np.where(arrivals == _NEVER, arrivals.max() + 1, arrivals)
        members.sort(key=lambda member: int(arrivals[member[2]].max()))
        #: For each variable the places of its blocks in the order.
        self._blocks: list[list[int]] = [[] for _ in batch.variables]
        for place, (_, _, variables) in enumerate(members):
            for i in variables.tolist():
                self._blocks[i].append(place)
        self._needed = [len(variables) for _, _, variables in members]
        typed = [
            (partition, plan.dtypes[kind])
            for partition, (kind, _) in zip(self._partitions, plan.executors, strict=True)
        ]
        order = [(which, block) for which, block, _ in members]
        self.sums = OverlappedSums(reduce, channel, typed, order, len(batch.variables))
        self.clear()

    def clear(self) -> None:
        """Nothing has been handed over."""
        self._checksums: dict[int, int] = {}
        self._missing = list(self._needed)
        self._ready = 0
        self._changed = False

    def fits(self, plan: StepPlan) -> bool:
        """Whether it is for this plan, with its variables where they were."""
        return plan is self._plan and _partitions(plan) == self._partitions

    def hand_over(self, variable: Variable, gradient: Any) -> None:
        """See Overlap."""
        place = self._places.get(id(variable))
        if place is None:
            return
        plain = isinstance(gradient, np.ndarray) and gradient.flags.c_contiguous
        if place in self._checksums or not plain or self._expected[place] != (gradient.shape, gradient.dtype):
            self._changed = True  # or of another kind
            self.sums.advance()
            return
        self.sums.arrays[place] = gradient
        self.sums.starts[place] = address_of(gradient)
        from distopt.engine.checksum import checksum  # with compiled code, which takes time to load

        self._checksums[place] = checksum(gradient)
        for block in self._blocks[place]:
            self._missing[block] -= 1
        ready = self._ready
        while ready < len(self._missing) and self._missing[ready] == 0:
            ready += 1
        if ready > self._ready:
            self._ready = ready
            self.sums.allow(ready)
        else:
            self.sums.advance()

    def holds(self, batch: GradientBatch) -> bool:
        """See Overlap."""
        if self._changed or batch.sparse:
            return False
        handed = list(self._checksums)
        if not np.array_equal(self.sums.starts[handed], batch.addresses[handed]):
            return False
        from distopt.engine.checksum import checksum

        return all(checksum(as_array(batch.gradients[i])) == self._checksums[i] for i in handed)

    def take(self, batch: GradientBatch) -> int:
        """Takes the gradients that have not been handed over; how many have been."""
        self.sums.arrays[:] = batch.gradients
        self.sums.starts[:] = batch.addresses
        return len(self._checksums)


def _partitions(plan: StepPlan) -> Sequence[Partition]:
    return [executor.partition for _, executor in plan.executors]
