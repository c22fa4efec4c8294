"""Plan: all that a step needs to know of its variables and that stays the same from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distopt.core.indexed_slices import IndexedSlices
from distopt.core.variable import Variable
from distopt.engine.clipped import ClippedProgram
from distopt.engine.homes import Homes
from distopt.engine.layout import Block, Segment, blocks
from distopt.engine.program import Program, possible
from distopt.engine.rule import Rule
from distopt.engine.update import Update
from distopt.typing import Array

__all__ = ["Group", "Plan", "Span", "columns_of"]

#: From this many elements on, a copy of a gradient costs more than another call of a kernel.
_LARGE = 1 << 15


@dataclass(frozen=True)
class Span:
    """Elements ``[start, stop)`` of a shard, whose parameters and slots lie in one piece each.

    Attributes:
        start: where it begins in the shard.
        stop: where it ends.
        parameters: the elements themselves, written by the update.
        slots: the same elements of each slot.
        segments: the same as parts of variables, in order.
    """

    start: int
    stop: int
    parameters: Array
    slots: tuple[Array, ...]
    segments: tuple[Segment, ...]


class Group:
    """The dense updates of one dtype and rule.

    Args:
        members: their places among the step's updates.
        rule: the arithmetic.
        updates: themselves; they are not kept.
        homes: where everything lies.

    Attributes:
        blocks: who updates what.
        program: this replica's part for a compiled loop, where the replicas can run one.
    """

    def __init__(self, members: tuple[int, ...], rule: Rule, updates: Sequence[Update], homes: Homes) -> None:
        self.members, self.rule = members, rule
        node, dtype = homes.node, updates[0].variable.dtype
        sizes = tuple(u.variable.size for u in updates)
        self.blocks: tuple[Block, ...] = blocks(sizes, node.size)
        self._rank = node.rank
        self._places = [[_place(v, homes) for v in (u.variable, *u.slots)] for u in updates]
        self._spans: tuple[tuple[Span, ...], ...] = ()
        self.program: Program | None = None
        self._clipped: ClippedProgram | None = None
        if self.blocks and homes.cross.size == 1 and possible(node, dtype):
            self.program = Program(rule, dtype, sizes, self._places, node)

    def state(self) -> list[Array]:
        """The memory that this replica writes when it updates its shard."""
        own = [span for spans in self.spans for span in spans]
        return [memory for span in own for memory in (span.parameters, *span.slots)]

    def clipped(self, program: Program) -> ClippedProgram:
        """The program for steps whose gradients' norms are clipped; collective when it is made."""
        if self._clipped is None:
            self._clipped = ClippedProgram(program)
        return self._clipped

    @property
    def spans(self) -> tuple[tuple[Span, ...], ...]:
        """For each block, this replica's shard as spans."""
        if not self._spans:
            own = [block.shards[self._rank] for block in self.blocks]
            self._spans = tuple(tuple(_spans(shard.segments, self._places)) for shard in own)
        return self._spans


class Plan:
    """One set of variables with their slots, as they come in a step. It does not keep them alive.

    Args:
        updates: the step that the plan is made for.
        subject: a hash of names, shapes, dtypes and rules, the same on every replica.
        whole: whether all variables of one dtype and rule must be one group, as for the norm of all
            together; otherwise those that have a constraint are a group of their own.
    """

    def __init__(self, updates: Sequence[Update], subject: int, whole: bool) -> None:
        self.subject, self._whole = subject, whole
        #: The updates whose variables have a constraint.
        self.bound = [i for i, u in enumerate(updates) if u.variable.constraint is not None]
        self.sparse = any(isinstance(u.gradient, IndexedSlices) for u in updates)
        #: First the groups with constraints.
        self.groups: tuple[Group, ...] = ()
        #: Value of ``detachments()`` when the variables were last seen at home; -1: not yet.
        self.seen = -1
        self.arranged, self._constrained = False, 0

    def arrange(self, updates: Sequence[Update], homes: Homes) -> None:
        """Works out who updates what, when all variables have their places."""
        members: dict[tuple[np.dtype[np.generic], Rule, bool], list[int]] = {}
        bound = set(self.bound)
        for i, u in enumerate(updates):
            if not isinstance(u.gradient, IndexedSlices):
                alone = i in bound and not self._whole
                members.setdefault((u.variable.dtype, u.rule, alone), []).append(i)
        groups = [
            Group(tuple(places), rule, [updates[i] for i in places], homes)
            for (_, rule, _), places in members.items()
        ]
        # A group of variables without elements has no blocks, and nothing to be done.
        first = [group for group in groups if group.blocks and not bound.isdisjoint(group.members)]
        others = [group for group in groups if group.blocks and bound.isdisjoint(group.members)]
        self.groups, self._constrained = (*first, *others), len(first)
        self.arranged = True

    @property
    def constrained(self) -> tuple[Group, ...]:
        """The groups with variables that have a constraint: updated first, since a constraint may raise."""
        return self.groups[: self._constrained]

    @property
    def others(self) -> tuple[Group, ...]:
        """The groups of variables without constraints."""
        return self.groups[self._constrained :]


def columns_of(updates: Sequence[Update]) -> list[list[Variable]]:
    """The variables, then their first slots, their second slots, ...: what should lie side by side."""
    columns: list[list[Variable]] = [[u.variable for u in updates]]
    for k in range(max((len(u.slots) for u in updates), default=0)):
        columns.append([u.slots[k] for u in updates if len(u.slots) > k])
    return columns


def _place(variable: Variable, homes: Homes) -> tuple[Array, int]:
    """The flat memory that a variable lies in, and where it begins there."""
    home = homes.of(variable)
    return (variable._array().reshape(-1), 0) if home is None else (home.base, home.offset)


def _spans(segments: Sequence[Segment], places: Sequence[Sequence[tuple[Array, int]]]) -> list[Span]:
    """Joins what lies side by side; large segments stay alone, so that their gradients need no copy."""
    runs: list[_Run] = []
    at = 0
    for s in segments:
        length = s.stop - s.start
        here = [(base, offset + s.start) for base, offset in places[s.variable]]
        if runs and max(length, runs[-1].largest) < _LARGE and runs[-1].reaches(here):
            runs[-1].segments.append(s)
        else:
            runs.append(_Run(at, here, [s]))
        at += length
    result = []
    for run in runs:
        arrays = [base[offset : offset + run.size] for base, offset in run.where]
        stop = run.start + run.size
        result.append(Span(run.start, stop, arrays[0], tuple(arrays[1:]), tuple(run.segments)))
    return result


@dataclass
class _Run:
    """Segments side by side, in the memory ``where`` of variables and slots."""

    start: int
    where: list[tuple[Array, int]]
    segments: list[Segment]

    @property
    def size(self) -> int:
        return sum(s.stop - s.start for s in self.segments)

    @property
    def largest(self) -> int:
        return max(s.stop - s.start for s in self.segments)

    def reaches(self, here: Sequence[tuple[Array, int]]) -> bool:
        size = self.size
        return len(self.where) == len(here) and all(
            a is b and start + size == offset
            for (a, start), (b, offset) in zip(self.where, here, strict=True)
        )
