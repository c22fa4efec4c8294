"""Cohorts: parameters of one group that have the same past, and so take their steps with the same numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from distopt.core.variable import Variable

__all__ = ["Cohort", "Cohorts"]


class Cohort:
    """Some parameters.

    Attributes:
        group: the place of their group in ``param_groups``.
        scalars: the scalar state that each of them has, e.g. the number of its steps.
    """

    __slots__ = ("group", "scalars")

    def __init__(self, group: int, scalars: Mapping[str, float]) -> None:
        self.group = group
        self.scalars = dict(scalars)


class Cohorts:
    """The cohorts of an optimizer's parameters. A parameter that sits a step out leaves its cohort behind."""

    def __init__(self) -> None:
        self._of: dict[Variable, Cohort] = {}
        self._together: list[int] = []

    def of(self, variable: Variable) -> Cohort:
        """The cohort of a variable."""
        return self._of[variable]

    def put(self, variables: Iterable[Variable], group: int, scalars: Mapping[str, float]) -> None:
        """Puts variables into a new cohort."""
        cohort = Cohort(group, scalars)
        self._of.update(dict.fromkeys(variables, cohort))
        self._together = []

    def remove(self, variable: Variable) -> Cohort:
        """Takes a variable out; its cohort."""
        self._together = []
        return self._of.pop(variable)

    def join(self, variables: Sequence[Variable]) -> bool:
        """Sees to it that no cohort is torn by a step of these variables alone; whether any was."""
        together = list(map(id, variables))
        if together == self._together:  # as in most steps
            return False
        mine: dict[Cohort, list[Variable]] = {}
        for variable in variables:
            mine.setdefault(self._of[variable], []).append(variable)
        sizes: dict[Cohort, int] = {}
        for cohort in self._of.values():
            sizes[cohort] = sizes.get(cohort, 0) + 1
        torn = [(cohort, members) for cohort, members in mine.items() if len(members) < sizes[cohort]]
        for cohort, members in torn:
            self.put(members, cohort.group, cohort.scalars)
        self._together = together
        return bool(torn)
