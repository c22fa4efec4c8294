"""Updates: what the step engine gets, and the reductions that it knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.engine.arrays import Flats
from distopt.engine.rule import Rule
from distopt.typing import Array

__all__ = ["Reduction", "Targets", "Update", "Updates", "lowest_terms", "weighed"]


class Update(NamedTuple):
    """One variable's part in a step.

    Attributes:
        variable: what is updated.
        gradient: an array like it, or IndexedSlices.
        slots: the rule's slots of this variable.
        rule: the arithmetic.
        coefficients: scalars of the variable's dtype, in the order of ``rule.coefficients``.
    """

    variable: Variable
    gradient: Array | IndexedSlices
    slots: tuple[Variable, ...]
    rule: Rule
    coefficients: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Targets:
    """What an optimizer updates beside the variables of a step: it stays the same from step to step.

    Attributes:
        slots: for each variable its rule's slots.
        rules: the rules in force.
        which: for each variable the place of its rule, and of its coefficients.
    """

    slots: tuple[tuple[Variable, ...], ...]
    rules: tuple[Rule, ...]
    which: tuple[int, ...]
    _parts: dict[tuple[int, ...], Targets] = field(default_factory=dict)

    def part(self, members: tuple[int, ...]) -> Targets:
        """Those of some of the variables, the same object for the same members."""
        part = self._parts.get(members)
        if part is None:
            slots = tuple([self.slots[i] for i in members])
            which = tuple([self.which[i] for i in members])
            part = self._parts[members] = Targets(slots, self.rules, which)
        return part


class Updates(Sequence[Update]):
    """The updates of one step, by columns: thousands of variables must not mean thousands of objects.

    Args:
        variables: what is updated.
        gradients: for each an array or tensor like it, or IndexedSlices.
        targets: their slots and rules.
        coefficients: for each of the targets' rules scalars of its variables' dtype.
        flats: the gradients, where all of them are known to be plain arrays.
    """

    def __init__(
        self,
        variables: Sequence[Variable],
        gradients: Sequence[Any],
        targets: Targets,
        coefficients: tuple[tuple[Any, ...], ...],
        flats: Flats | None = None,
    ) -> None:
        self.variables, self.gradients, self.targets = variables, gradients, targets
        self.coefficients = coefficients
        self._flats = flats
        self._last: tuple[Sequence[int], Flats] | None = None

    def __len__(self) -> int:
        return len(self.variables)

    def __getitem__(self, index: Any) -> Any:
        gradient, kind = self.gradients[index], self.targets.which[index]
        return Update(
            self.variables[index],
            gradient if isinstance(gradient, IndexedSlices) else as_array(gradient),
            self.targets.slots[index],
            self.targets.rules[kind],
            self.coefficients[kind],
        )

    @property
    def sparse(self) -> tuple[int, ...]:
        """The places of sparse gradients."""
        if self._flats is not None:
            return ()
        return tuple([i for i, g in enumerate(self.gradients) if isinstance(g, IndexedSlices)])

    def flats(self, members: Sequence[int], scale: int | None = None) -> Flats:
        """The dense gradients at ``members``, increasing, each multiplied by ``scale`` if given."""
        if scale is not None:
            return Flats.of([weighed(as_array(self.gradients[i]), scale) for i in members])
        if self._flats is not None and len(members) == len(self):
            return self._flats
        if self._last is None or self._last[0] is not members:
            self._last = members, Flats.of([self.gradients[i] for i in members])
        return self._last[1]

    def having(self, gradients: Sequence[Any]) -> Updates:
        """The same updates with other gradients."""
        return Updates(self.variables, gradients, self.targets, self.coefficients)

    def rounds(self) -> list[Updates]:
        """Each variable once a round, in the order given: one that comes twice is updated twice."""
        rounds: list[list[int]] = []
        seen: dict[int, int] = {}
        for i, variable in enumerate(map(id, self.variables)):
            turn = seen[variable] = seen.get(variable, -1) + 1
            if turn == len(rounds):
                rounds.append([])
            rounds[turn].append(i)
        return [self] if len(rounds) == 1 else [self._part(tuple(members)) for members in rounds]

    def _part(self, members: tuple[int, ...]) -> Updates:
        variables, gradients = ([column[i] for i in members] for column in (self.variables, self.gradients))
        return Updates(variables, gradients, self.targets.part(members), self.coefficients)


@dataclass(frozen=True)
class Reduction:
    """How the replicas' gradients become one, in the engine's own pass.

    Attributes:
        weight: None for a plain sum; 1 for the mean; any count for the mean weighted by counts.
    """

    weight: int | None = None


def lowest_terms(weight: int | None, weights: Sequence[int]) -> tuple[int | None, int | None]:
    """What a replica's gradients are multiplied by, and what their sum is divided by; None for 1.

    In lowest terms, so that equal weights are the plain mean, and one replica's gradients stay as they are.

    Args:
        weight: this replica's, or None for a plain sum.
        weights: those of all replicas.
    """
    common = gcd(*weights)
    if weight is None or common == 0:
        return None, None if weight is None else 0
    factor = weight // common
    return None if factor == 1 else factor, sum(weights) // common


def weighed(values: Array, factor: int | None) -> Array:
    """``values * factor``; zeros for factor 0, since a mean over no examples may well be NaN."""
    if factor is None:
        return values
    return values * values.dtype.type(factor) if factor else np.zeros_like(values)
